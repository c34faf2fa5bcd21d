package lanes

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/budgetguard/budgetguard/domain"
)

// Hash links an event to the one before it in its tenant's stream.
type Hash = [sha256.Size]byte

// Genesis is what the first event of a tenant links to.
func Genesis(tenant domain.TenantID) Hash {
	return sha256.Sum256([]byte("budgetguard/1/" + string(tenant)))
}

// Link is the hash of an event that follows prev: SHA-256 over fields of fixed width, so no two events
// can share an encoding, with tenant and version inside, so none can be moved. Strings go in as their own
// SHA-256. It covers the stored bytes; nothing is serialised again to verify.
func Link(prev Hash, r domain.Recorded, schema int) Hash {
	tenant, kind, body := sha256.Sum256([]byte(r.Tenant)), sha256.Sum256([]byte(domain.TypeOf(r.Event))), sha256.Sum256(r.Body)
	b := make([]byte, 0, 1+32+8+8+2+32+32+32)
	b = append(b, 1) // the version of this layout
	b = append(b, tenant[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Version)) //nolint:gosec // versions are positive
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixMicro()))
	b = binary.BigEndian.AppendUint16(b, uint16(schema&0xffff))
	b = append(b, kind[:]...)
	b = append(b, prev[:]...)
	b = append(b, body[:]...)
	return sha256.Sum256(b)
}
