package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// devNoteFile holds what dev made up, readable by its owner only, in the form of a .env file.
const devNoteFile = "dev.env"

type devNote struct {
	gateway, database, redis, mock, adminKey, demoKey string
}

func (n *devNote) fields() map[string]*string {
	return map[string]*string{
		"GATEWAY_URL": &n.gateway, "DATABASE_URL": &n.database, "REDIS_URL": &n.redis, "MOCK_URL": &n.mock,
		"ADMIN_API_KEY": &n.adminKey, "DEMO_API_KEY": &n.demoKey,
	}
}

// readDevNote reads the note of the last run; without one it is empty.
func readDevNote(dir string) (devNote, error) {
	note := devNote{}
	e := newEnvironment(nil)
	if err := e.readDotEnv(filepath.Join(dir, devNoteFile)); err != nil {
		return note, err
	}
	for name, field := range note.fields() {
		*field = e.behind[name]
	}
	return note, nil
}

// write replaces the note, whole or not at all.
func (n *devNote) write(dir string) error {
	text := "# Written by budgetguard dev; secrets of this directory's servers.\n"
	for _, name := range []string{"GATEWAY_URL", "DATABASE_URL", "REDIS_URL", "MOCK_URL", "ADMIN_API_KEY", "DEMO_API_KEY"} {
		text += fmt.Sprintf("%s=%s\n", name, *n.fields()[name])
	}
	path := filepath.Join(dir, devNoteFile)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(path+".new", path)
}
