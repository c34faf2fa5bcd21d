// Package migrations holds the database schema as forward-only SQL files and applies them. Each file must
// leave the database usable by the previous binary too, since gateways are replaced one at a time.
package migrations
