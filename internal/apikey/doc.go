// Package apikey makes and checks the secrets that tenants present: bgk_ keys.
//
// A key is
//
//	bgk_ + 43 characters of base62 (256 random bits) + 6 characters of base62 (CRC-32)
//
// so 53 characters of [0-9A-Za-z_] that a double click selects whole. The checksum has GitHub's form
// (https://github.blog/engineering/platform-security/behind-githubs-new-authentication-token-formats/):
// a typing error, or a scanner's false hit, is told from a key without asking anybody.
// The regular expression for secret scanners is bgk_[0-9A-Za-z]{49}.
//
// The secret is shown once and never stored: [Hash] makes of it what is recorded. It is random and as
// long as a hash, so a fast keyed hash is right here, and a slow password hash would only hand attackers
// a way to keep processors busy.
package apikey
