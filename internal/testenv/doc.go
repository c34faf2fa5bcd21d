// Package testenv gives tests a real Postgres and a real Redis. A test that uses it
// never skips: where a server is missing it fails and says to run `make deps`.
//
// A test package that needs one hands its [testing.M] over:
//
//	func TestMain(m *testing.M) {
//		os.Exit(testenv.Main(m, testenv.WithTemplate(func(ctx context.Context, url string) error {
//			_, err := migrations.Up(ctx, url)
//			return err
//		})))
//	}
//
//	func TestSomething(t *testing.T) {
//		t.Parallel()
//		pool, err := pgxpool.New(t.Context(), testenv.Database(t))
//		…
//
// # How it works
//
// Each test process has a Postgres and a Redis of its own, started when a test first
// asks (about 0.3 s: the cluster is a copy of one that was initialised once) and
// shared by its tests. The template is filled once; [Database] copies it in some 20 ms.
// Nothing is shared between processes, so nothing has to be agreed between them.
//
// Everything is thrown away at the end of [Main]. If the process ends in any other way
// (a panic, a timeout, kill -9), the kernel ends the servers and a small
// shell process that waits for just that removes the directory.
package testenv
