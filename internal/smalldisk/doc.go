// Package smalldisk makes file systems of a given size for tests of full disks.
package smalldisk
