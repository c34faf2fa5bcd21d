package flight_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/proxy/flight"
)

const boot = "this run"

func open(tb testing.TB, dir string, change ...func(*flight.Config)) *flight.Recorder {
	tb.Helper()
	cfg := flight.Config{
		Dir: dir, Header: flight.Header{Gateway: "gw-" + uuid.NewString()[:8], Boot: boot, Build: "test"},
		Now: time.Now, Failed: func(err error) { tb.Error(err) },
	}
	for _, c := range change {
		c(&cfg)
	}
	r, err := flight.Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(r.Die)
	return r
}

func newID() domain.ReservationID { return domain.ReservationID(uuid.NewString()) }

func settled(id domain.ReservationID) domain.Settle {
	return domain.Settle{
		Reservation: id, Charged: 1234, Basis: domain.BasisProvider, AnsweredModel: "gpt-\"4\"\n", AnsweredTier: domain.TierDefault, Reason: "why",
		Usage: domain.Usage{Prompt: 1, Cached: 2, CacheWrite: 3, CacheWriteLong: 8, AudioPrompt: 4, Completion: 5, Reasoning: 6, AudioAnswer: 7},
	}
}

// lost is the one file of a dead process in dir.
func lost(tb testing.TB, dir string) *flight.Lost {
	tb.Helper()
	found, err := flight.Search(dir)
	if err != nil || len(found) != 1 {
		tb.Fatalf("%d files, %v; want one", len(found), err)
	}
	tb.Cleanup(func() { _ = found[0].Keep() })
	return found[0]
}

// commands are what a replay would do.
func commands(l *flight.Lost) []domain.Command {
	var all []domain.Command
	for _, c := range l.Calls {
		all = append(all, c.Command(l.Whole(boot)))
	}
	return all
}

func entries(tb testing.TB, dir string) []string {
	tb.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	names := make([]string, len(found))
	for i, e := range found {
		names[i] = e.Name()
	}
	return names
}

// sample records a call of every kind and returns what a replay must make of those without an end.
func sample(r *flight.Recorder) []domain.Command {
	ids := make([]domain.ReservationID, 8)
	for i := range ids {
		ids[i] = newID()
		r.Reserved("acme", ids[i])
	}
	for _, id := range ids[1:6] {
		r.Dispatched(id)
		r.Dispatched(id) // net/http tries a second connection
	}
	r.Closing(settled(ids[2]))
	r.Closing(domain.SettlePresumed{Reservation: ids[3], Reason: "cut"})
	r.Closing(domain.Release{Reservation: ids[4], Reason: "status 400"})
	r.Closing(settled(ids[5]))
	r.Closed(ids[5])
	r.Closed(ids[6]) // refused
	r.Doubted(ids[7])
	return []domain.Command{
		domain.Release{Reservation: ids[0], Reason: flight.ReasonNeverDispatched},
		domain.SettlePresumed{Reservation: ids[1], Reason: flight.ReasonGatewayDied},
		settled(ids[2]),
		domain.SettlePresumed{Reservation: ids[3], Reason: "cut"},
		domain.Release{Reservation: ids[4], Reason: "status 400"},
		domain.Release{Reservation: ids[7], Reason: flight.ReasonNeverDispatched},
	}
}

func TestReplayClosesEachCallByHowFarItCame(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	want := sample(r)
	if info, err := os.Stat(r.Path()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if found, err := flight.Search(dir); len(found) != 0 || err != nil {
		t.Fatalf("the file of a living process is found: %v, %v", found, err)
	}
	r.Die()
	l := lost(t, dir)
	if l.Err != nil || l.Header.Build != "test" || !reflect.DeepEqual(commands(l), want) {
		t.Errorf("%v, %+v\n got %+v\nwant %+v", l.Err, l.Header, commands(l), want)
	}
	for _, c := range l.Calls {
		if c.Tenant != "acme" {
			t.Errorf("%+v", c)
		}
	}
	if again, err := flight.Search(dir); len(again) != 0 || err != nil {
		t.Errorf("two find the same file: %v, %v", again, err)
	}
	if err := l.Remove(); err != nil || len(entries(t, dir)) != 0 {
		t.Errorf("%v, %v", entries(t, dir), err)
	}
}

func TestClosingCommandsLoseNoField(t *testing.T) {
	t.Parallel()
	for _, c := range []any{settled("r"), domain.SettlePresumed{Reservation: "r", Reason: "x"}, domain.Release{Reservation: "r", Reason: "x"}} {
		if v := reflect.ValueOf(c); !filled(v) {
			t.Errorf("%T has a new field: fill it in here, and see that it is recorded", c)
		}
	}
}

func filled(v reflect.Value) bool {
	for i := range v.NumField() {
		f := v.Field(i)
		if f.IsZero() || f.Kind() == reflect.Struct && !filled(f) {
			return false
		}
	}
	return true
}

func TestAfterAnotherBootWhatIsMissingProvesNothing(t *testing.T) {
	t.Parallel()
	for _, other := range []string{"another run", ""} {
		dir := t.TempDir()
		r := open(t, dir, func(c *flight.Config) { c.Header.Boot = other })
		want := sample(r)
		r.Die()
		for i, c := range want {
			if f, ok := c.(domain.Release); ok && f.Reason == flight.ReasonNeverDispatched {
				want[i] = domain.SettlePresumed{Reservation: f.Reservation, Reason: flight.ReasonGatewayDied}
			}
		}
		l := lost(t, dir)
		if got := commands(l); !reflect.DeepEqual(got, want) || l.Whole("") {
			t.Errorf("boot %q\n got %+v\nwant %+v", other, got, want)
		}
	}
}

func TestCleanEndLeavesNoFileAndAnUncleanOneLeavesTheRest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	done, doubtful := newID(), newID()
	r.Reserved("a", done)
	r.Closed(done)
	r.Reserved("a", doubtful)
	r.Doubted(doubtful)
	r.Drained()
	if left, err := r.Close(); left != 0 || err != nil || len(entries(t, dir)) != 0 {
		t.Errorf("%d left, %v, %v", left, err, entries(t, dir))
	}
	r.Reserved("a", newID())
	r.Closed(done)
	if left, err := r.Close(); left != 0 || err != nil {
		t.Errorf("closed twice: %d, %v", left, err)
	}
	second := open(t, dir)
	id := newID()
	second.Reserved("a", id)
	second.Dispatched(id)
	second.Closing(settled(id))
	if left, err := second.Close(); left != 1 || err != nil {
		t.Errorf("%d left, %v", left, err)
	}
	if got := commands(lost(t, dir)); !reflect.DeepEqual(got, []domain.Command{settled(id)}) {
		t.Errorf("%+v", got)
	}
}

func TestDoubtIsLeftToTheNextStartUnlessTheLedgerWroteAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	id := newID()
	r.Reserved("a", id)
	r.Doubted(id)
	if left, err := r.Close(); left != 1 || err != nil {
		t.Errorf("%d left, %v", left, err)
	}
	want := []domain.Command{domain.Release{Reservation: id, Reason: flight.ReasonNeverDispatched}}
	if got := commands(lost(t, dir)); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestNilRecorderRecordsNothing(t *testing.T) {
	t.Parallel()
	var r *flight.Recorder
	sample(r)
	r.Drained()
	if left, err := r.Close(); left != 0 || err != nil {
		t.Error(left, err)
	}
}

// Wherever the file breaks off, each call is closed as far as it is known to have come: a record that was not
// written whole allowed nothing.
func TestWhereverAFileBreaksOffItIsReadToThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	sample(r)
	whole, err := os.ReadFile(r.Path())
	if err != nil {
		t.Fatal(err)
	}
	header := 8 + int(binary.LittleEndian.Uint32(whole))
	known := -1
	for n := range len(whole) + 1 {
		log, err := flight.Read(bytes.NewReader(whole[:n]))
		if n < header {
			if !errors.Is(err, flight.ErrDamaged) {
				t.Fatalf("%d bytes: %v", n, err)
			}
			continue
		}
		if err != nil || log.Header.Gateway == "" {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if len(log.Calls) > known {
			known = len(log.Calls)
		}
	}
	if known != 8 {
		t.Errorf("%d calls at most, want 8", known)
	}
}

func TestDamageIsSaidAndProvesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	want := sample(r)
	r.Die()
	name := entries(t, dir)[0]
	whole, err := os.ReadFile(r.Path())
	if err != nil {
		t.Fatal(err)
	}
	broken := slices.Clone(whole)
	broken[len(broken)-1] ^= 1
	if err := os.WriteFile(r.Path(), broken, 0o600); err != nil {
		t.Fatal(err)
	}
	l := lost(t, dir)
	if !errors.Is(l.Err, flight.ErrDamaged) || l.Whole(boot) || len(l.Calls) < len(want) {
		t.Errorf("%v, %d calls", l.Err, len(l.Calls))
	}
	if c := commands(l)[0]; !reflect.DeepEqual(c, domain.SettlePresumed{Reservation: l.Calls[0].Reservation, Reason: flight.ReasonGatewayDied}) {
		t.Errorf("%+v", c)
	}
	if err := l.SetAside(); err != nil || !slices.Equal(entries(t, dir), []string{name + ".damaged"}) {
		t.Errorf("%v, %v", entries(t, dir), err)
	}
	if found, err := flight.Search(dir); len(found) != 0 || err != nil {
		t.Errorf("found again: %v, %v", found, err)
	}
}

// framed is a record with a right checksum, whatever it says.
func framed(payload string) string {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum([]byte(payload), crc32.MakeTable(crc32.Castagnoli)))
	return string(b) + payload
}

func TestHostileFilesAreRefusedWithoutHarm(t *testing.T) {
	t.Parallel()
	header := framed("H\x00" + `{"gateway":"gw"}`)
	begun := header + framed("R\x01ra")
	for name, content := range map[string]string{
		"empty": "", "text": "it is no recorder's file, but long enough to look at", "no name": framed("H\x00{}"),
		"no header": framed("R\x01ra"), "header of another kind": framed("H\x00null"),
		"a huge record": header + "\xff\xff\xff\xff\x00\x00\x00\x00", "a short record": header + framed("R"), "a long id": header + framed("R\x09r"),
		"twice": begun + framed("R\x01ra"), "no beginning": header + framed("D\x01r"), "unknown": begun + framed("Z\x01r"),
		"another's end": begun + framed("S\x01r{\"Reservation\":\"q\"}"), "no command": begun + framed("S\x01r"), "a header again": begun + framed("H\x01r{}"),
		"money that is none": begun + framed("S\x01r{\"Reservation\":\"r\",\"Charged\":\"much\"}"),
	} {
		if log, err := flight.Read(strings.NewReader(content)); !errors.Is(err, flight.ErrDamaged) || len(log.Calls) > 1 {
			t.Errorf("%s: %+v, %v", name, log, err)
		}
	}
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "passwd")
	for _, err := range []error{
		os.WriteFile(outside, []byte("secret"), 0o600), os.Symlink(outside, filepath.Join(dir, "link.flight")),
		syscall.Mkfifo(filepath.Join(dir, "pipe.flight"), 0o600), os.Mkdir(filepath.Join(dir, "folder.flight"), 0o700),
		os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600), os.WriteFile(filepath.Join(dir, "left.flight.new"), nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if found, err := flight.Search(dir); len(found) != 0 || err != nil {
		t.Errorf("%v, %v", found, err)
	}
	if left := entries(t, dir); !slices.Equal(left, []string{"folder.flight", "link.flight", "notes.txt", "pipe.flight"}) {
		t.Errorf("%v is left", left)
	}
	if found, err := flight.Search(filepath.Join(dir, "none")); len(found) != 0 || err != nil {
		t.Errorf("%v, %v", found, err)
	}
}

func TestAFileStaysSmallAndKeepsWhatIsOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	want := sample(r)
	largest := int64(0)
	for i := range 80_000 {
		id := newID()
		r.Reserved("acme", id)
		r.Dispatched(id)
		r.Closing(settled(id))
		r.Closed(id)
		if i%1000 == 0 {
			info, err := os.Stat(r.Path())
			if err != nil {
				t.Fatal(err)
			}
			largest = max(largest, info.Size())
		}
	}
	if found, err := flight.Search(dir); len(found) != 0 || err != nil {
		t.Fatalf("the file of a living process is found: %v, %v", found, err)
	}
	r.Die()
	if got := commands(lost(t, dir)); !reflect.DeepEqual(got, want) || largest > 8<<20 || len(entries(t, dir)) != 1 {
		t.Errorf("largest %d, %v\n got %+v\nwant %+v", largest, entries(t, dir), got, want)
	}
}

func TestDoubtsAreForgottenInTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := open(t, dir)
	for range 3000 {
		id := newID()
		r.Reserved("acme", id)
		r.Doubted(id)
	}
	r.Die()
	if n := len(lost(t, dir).Calls); n != 1024 {
		t.Errorf("%d are remembered", n)
	}
}

// A file that lacks a record is worse than none: it could say that a call was never sent that was.
func TestAFullDiskEndsTheFileAndAFreeOneBringsItBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Now()
	var failures []error
	r := open(t, dir, func(c *flight.Config) {
		c.Now = func() time.Time { return now }
		c.Failed = func(err error) { failures = append(failures, err) }
	})
	disk := &flight.Disk{}
	r.On(disk)
	early := newID()
	r.Reserved("acme", early)
	disk.Full = true
	r.Dispatched(early)
	if len(entries(t, dir)) != 0 {
		t.Fatalf("%v claims that the call was never sent", entries(t, dir))
	}
	for range 10 {
		r.Reserved("acme", newID()) // tried again once a second at most
	}
	now = now.Add(time.Second)
	during := newID()
	r.Reserved("acme", during)
	if len(failures) != 2 || !errors.Is(failures[0], flight.ErrFull) || len(entries(t, dir)) != 0 {
		t.Fatalf("%v, %v", failures, entries(t, dir))
	}
	disk.Full = false
	r.Dispatched(during)
	now = now.Add(time.Second)
	r.Closing(settled(early))
	r.Die()
	l := lost(t, dir)
	if len(l.Calls) != 12 || len(failures) != 2 {
		t.Fatalf("%d calls, %v", len(l.Calls), failures)
	}
	if first, last := l.Calls[0], l.Calls[11]; !reflect.DeepEqual(first.Closing, settled(early)) || !last.Dispatched || last.Reservation != during {
		t.Errorf("%+v, %+v", first, last)
	}
}

func TestADeadDiskNamesTheFileThatLies(t *testing.T) {
	t.Parallel()
	var failures []error
	r := open(t, t.TempDir(), func(c *flight.Config) { c.Failed = func(err error) { failures = append(failures, err) } })
	disk := &flight.Disk{}
	r.On(disk)
	id := newID()
	r.Reserved("acme", id)
	if err := os.Remove(r.Path()); err != nil { // so that it cannot be removed any more
		t.Fatal(err)
	}
	disk.Dead = true
	r.Dispatched(id)
	if len(failures) != 1 || !strings.Contains(failures[0].Error(), r.Path()) {
		t.Errorf("%v", failures)
	}
	if left, err := r.Close(); left != 1 || err != nil {
		t.Errorf("%d, %v", left, err)
	}
}

func TestAnAbsurdModelNameCostsItsRecordOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	failures := 0
	r := open(t, dir, func(c *flight.Config) { c.Failed = func(error) { failures++ } })
	id := newID()
	r.Reserved("acme", id)
	r.Dispatched(id)
	long := settled(id)
	long.AnsweredModel = strings.Repeat("x", 1<<20)
	r.Closing(long)
	r.Die()
	want := []domain.Command{domain.SettlePresumed{Reservation: id, Reason: flight.ReasonGatewayDied}}
	if got := commands(lost(t, dir)); !reflect.DeepEqual(got, want) || failures != 1 {
		t.Errorf("%+v, %d failures", got, failures)
	}
}

func TestADirectoryThatCannotBeIsAnError(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := flight.Open(flight.Config{Dir: filepath.Join(path, "below"), Header: flight.Header{Gateway: "g"}, Now: time.Now})
	if err == nil || !strings.HasPrefix(err.Error(), "open flight recorder: ") {
		t.Error(err)
	}
	r := open(t, t.TempDir(), func(c *flight.Config) { c.Header.Gateway = "../../etc/passwd" })
	if !strings.HasSuffix(r.Path(), "/.._.._etc_passwd.flight") {
		t.Error(r.Path())
	}
}

// FuzzRead reads anything without a panic, and a call is released as never sent only if the file says nothing
// else about it.
func FuzzRead(f *testing.F) {
	r := open(f, f.TempDir())
	sample(r)
	whole, err := os.ReadFile(r.Path())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte(framed("H\x00" + `{"gateway":"gw"}`)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		log, err := flight.Read(bytes.NewReader(content))
		if err == nil && log.Header.Gateway == "" {
			t.Error("no error and no header")
		}
		seen := map[domain.ReservationID]bool{}
		for _, c := range log.Calls {
			if seen[c.Reservation] {
				t.Errorf("%s twice", c.Reservation)
			}
			seen[c.Reservation] = true
			if f, ok := c.Command(err == nil).(domain.Release); ok && c.Closing == nil && (c.Dispatched || err != nil || f.Reservation != c.Reservation) {
				t.Errorf("%+v is released", c)
			}
		}
	})
}

// BenchmarkCall is what a call costs: four records.
func BenchmarkCall(b *testing.B) {
	for _, parallel := range []int{1, 100} {
		b.Run(fmt.Sprintf("%d at once", parallel), func(b *testing.B) {
			r := open(b, b.TempDir())
			b.ReportAllocs()
			b.SetParallelism(parallel)
			b.RunParallel(func(pb *testing.PB) {
				id := newID()
				for pb.Next() {
					r.Reserved("acme", id)
					r.Dispatched(id)
					r.Closing(settled(id))
					r.Closed(id)
				}
			})
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(4*b.N), "µs/record")
		})
	}
}

// A gateway that compacts gives the old file's lock back. Whoever had that file open and takes the lock now
// holds a story that is over.
func TestTheLockOfAFileThatWasReplacedIsWorthNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "gw.flight")
	var files []*os.File
	for range 2 {
		_ = os.Remove(path)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		files = append(files, f)
	}
	if flight.Locked(files[0], path) {
		t.Error("the old file can be replayed")
	}
	if !flight.Locked(files[1], path) || flight.Locked(files[0], path+".gone") {
		t.Error("the new one cannot, or one without a name can")
	}
}
