//go:build !linux

package main

import (
	"errors"
	"syscall"
)

func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func mountDisk(string, int64) error { return errors.ErrUnsupported }

func unmountDisk(string) error { return nil }

func resizeDisk(string, int64) error { return errors.ErrUnsupported }

func fillDisk(string) error { return errors.ErrUnsupported }
