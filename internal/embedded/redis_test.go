package embedded

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	goredis "github.com/redis/go-redis/v9"
)

func client(t *testing.T, s *Server) *goredis.Client {
	t.Helper()
	opts, err := goredis.ParseURL(s.URL())
	check(t, err)
	c := goredis.NewClient(opts)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRedisKeepsDataPasswordAndPortAcrossCrashes(t *testing.T) {
	t.Parallel()
	cfg := Config{Dir: newDir(t), Durable: true}
	first := startRedis(t, cfg)
	check(t, client(t, first).Set(t.Context(), "kept", "yes", 0).Err())
	check(t, first.Stop(t.Context()))

	second := startRedis(t, cfg)
	wantEqual(t, "URL", second.URL(), first.URL())
	wantEqual(t, "after a stop", client(t, second).Get(t.Context(), "kept").Val(), "yes")
	check(t, client(t, second).Set(t.Context(), "kept", "still", 0).Err())
	done := second.Done()
	check(t, syscall.Kill(second.PID(), syscall.SIGKILL))
	<-done
	check(t, second.Start(t.Context()))
	wantEqual(t, "after kill -9", client(t, second).Get(t.Context(), "kept").Val(), "still")
}

func TestRedisHasTheSettingsOfItsConfig(t *testing.T) {
	t.Parallel()
	durable := startRedis(t, Config{Dir: newDir(t), Durable: true})
	quick := startRedis(t, config(newDir(t)))
	for _, c := range []struct {
		s             *Server
		setting, want string
	}{
		{durable, "appendonly", "yes"},
		{durable, "appendfsync", "everysec"},
		{durable, "maxmemory-policy", "noeviction"},
		{durable, "protected-mode", "yes"},
		{durable, "bind", "127.0.0.1"},
		{durable, "databases", "64"},
		{quick, "appendonly", "yes"},
		{quick, "appendfsync", "no"},
	} {
		got, err := client(t, c.s).ConfigGet(t.Context(), c.setting).Result()
		check(t, err)
		wantEqual(t, c.setting, got[c.setting], c.want)
	}
}

func TestRedisRefusesAWrongPassword(t *testing.T) {
	t.Parallel()
	s := startRedis(t, config(newDir(t)))
	opts, err := goredis.ParseURL(strings.Replace(s.URL(), s.password, "wrong", 1))
	check(t, err)
	c := goredis.NewClient(opts)
	defer func() { _ = c.Close() }()
	if err := c.Ping(t.Context()).Err(); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("got %v, want WRONGPASS", err)
	}
}

func TestStaleRedisPidFileDoesNotStopAStart(t *testing.T) {
	t.Parallel()
	s := startRedis(t, config(newDir(t)))
	file := filepath.Join(s.Data(), redisPid)
	check(t, s.StopImmediate(t.Context()))
	check(t, os.WriteFile(file, []byte(strconv.Itoa(os.Getppid())+"\n"), 0o600))
	check(t, s.at.who.chown(file))
	check(t, s.Start(t.Context()))
	check(t, client(t, s).Ping(t.Context()).Err())
}
