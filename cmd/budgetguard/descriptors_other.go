//go:build !unix

package main

// descriptors is how many files and sockets this process may have open.
func descriptors() int { return assumedDescriptors }
