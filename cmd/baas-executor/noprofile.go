//go:build !profile

package main

// profiled is for builds with the tag "profile": what writes profiles costs an executor
// a quarter of a megabyte even where it writes none.
func profiled(run func() error) error { return run() }
