package main

import "time"

// dice is a source of chance that a seed decides (splitmix64). Each goroutine has its own.
type dice struct{ state uint64 }

func (d *dice) next() uint64 {
	d.state += 0x9e3779b97f4a7c15
	z := d.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below is a number from 0 to n-1.
func (d *dice) below(n int) int { return int(d.next() % uint64(n)) } //nolint:gosec // n is a small positive constant or length

// chance is true that often of a hundred times.
func (d *dice) chance(percent int) bool { return d.below(100) < percent }

// between is a span of at least least and less than most.
func (d *dice) between(least, most time.Duration) time.Duration {
	return least + time.Duration(d.below(int(most-least)))
}

// fork is a source of its own for somebody else.
func (d *dice) fork() *dice { return &dice{state: d.next()} }

// oneOf picks one of a list.
func oneOf[T any](d *dice, list []T) T { return list[d.below(len(list))] }

// shuffle puts a list into a random order.
func shuffle[T any](d *dice, list []T) {
	for i := len(list) - 1; i > 0; i-- {
		j := d.below(i + 1)
		list[i], list[j] = list[j], list[i]
	}
}
