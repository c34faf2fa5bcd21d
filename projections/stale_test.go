package projections_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/budgetguard/budgetguard/internal/testenv"
)

// A failover to a replica that lagged: the stream and the registers are those of a while ago, and so is the mark that
// says they are right. The outbox is empty, so nothing of what is missing comes again by itself.
func TestRedisThatComesBackWithOldDataIsFilledAgain(t *testing.T) {
	t.Parallel()
	server := testenv.RedisServer(t)
	w := newWorld(t, server.URL())
	w.worker()
	tenant, late := w.tenant("early"), w.tenant("late")
	w.spend(tenant, 10)
	w.converge(tenant, late)
	old := filepath.Join(filepath.Dir(server.Data()), "old")
	shell(t, "cp", "-Rp", server.Data(), old)
	w.spend(tenant, 20)
	w.spend(late, 5)
	w.converge(tenant, late)
	if err := server.StopImmediate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(server.Data()); err != nil {
		t.Fatal(err)
	}
	shell(t, "mv", old, server.Data())
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.converge(tenant, late)
	w.spend(late, 5)
	w.converge(tenant, late)
}

func shell(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
