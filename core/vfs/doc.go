// Package vfs is the small part of a file system that the backup needs, so that
// its code meets the failures of disks in tests.
//
// OS is the real thing. Memory is a file system in memory that can also lose
// power: it remembers what was synced, and Crash makes a successor that has all of
// that and any part of the rest. Fault wraps another file system and fails chosen
// operations.
//
// Files are created once, written from front to back and never changed. There is
// no other way of writing: no truncation, no writing in the middle, no opening for
// writing of a file that exists.
//
// All methods are safe for concurrent use. A File is owned by whoever opened it.
package vfs
