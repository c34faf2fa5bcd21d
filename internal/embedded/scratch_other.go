//go:build unix && !linux

package embedded

import "os"

func scratchParent() string { return os.TempDir() }
