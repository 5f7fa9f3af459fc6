//go:build linux

package wait

import (
	"bytes"
	"fmt"
	"math"
	"strconv"

	"golang.org/x/sys/unix"
)

// Call is what /proc/PID/task/TID/syscall says of a thread.
type Call struct {
	Running bool // the thread is not blocked; the rest is not known
	Number  int  // of the system call; -1 blocked outside one, as by a page fault
	Args    [6]uint64
	SP, PC  uint64 // stack pointer and program counter; 0 for threads of the kernel
}

// ParseSyscall reads /proc/PID/task/TID/syscall (proc(5)): the word "running",
// or "-1 SP PC", or the number of the call, six arguments, SP and PC.
func ParseSyscall(data []byte) (Call, error) {
	c := Call{Number: -1}
	rest := bytes.TrimRight(data, "\n")
	if string(rest) == "running" {
		c.Running = true
		return c, nil
	}
	field, rest := cutSpace(rest)
	number, ok := decimal(field)
	if !ok || int64(int(number)) != number {
		return c, fmt.Errorf("parse syscall: %.40q starts neither with a number nor with the word running", data)
	}
	var values [8]uint64
	n := 0
	for len(rest) > 0 {
		field, rest = cutSpace(rest)
		if n == len(values) {
			return c, fmt.Errorf("parse syscall: more than %d fields in %.200q", n+1, data)
		}
		if !bytes.HasPrefix(field, []byte("0x")) {
			return c, fmt.Errorf("parse syscall: field %d is %.20q, not an address with 0x", n+2, field)
		}
		if values[n], ok = hexadecimal(field[2:]); !ok {
			return c, fmt.Errorf("parse syscall: field %d is %.20q, not a hexadecimal number", n+2, field)
		}
		n++
	}
	switch {
	case number == -1 && n == 2:
		c.SP, c.PC = values[0], values[1]
	case number >= 0 && n == 8:
		c.Number = int(number)
		copy(c.Args[:], values[:6])
		c.SP, c.PC = values[6], values[7]
	default:
		return c, fmt.Errorf("parse syscall: call %d with %d addresses: want -1 with 2, or a call with 8", number, n)
	}
	return c, nil
}

// Target is one descriptor in the set of an epoll(7).
type Target struct {
	FD     int
	Inode  uint64
	Device uint64 // of the file system of the inode, in the kernel's encoding; 0 before Linux 4.13, along with Inode
}

// ParseFdinfoTargets reads the lines "tfd:" of /proc/PID/fdinfo/N of an epoll
// descriptor (the kernel's Documentation/filesystems/proc.rst) and appends
// them to a list. Other lines are passed over, and so is a last line cut short.
func ParseFdinfoTargets(to []Target, data []byte) ([]Target, error) {
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			break
		}
		line := data[:end]
		data = data[end+1:]
		key, rest := cutSpace(line)
		if string(key) != "tfd:" {
			continue
		}
		field, rest := cutSpace(rest)
		fd, ok := decimal(field)
		if !ok || fd < 0 || int64(int(fd)) != fd {
			return to, fmt.Errorf("parse fdinfo: %.20q after tfd: is not a descriptor", field)
		}
		t := Target{FD: int(fd)}
		for len(rest) > 0 {
			field, rest = cutSpace(rest)
			if value, found := bytes.CutPrefix(field, []byte("ino:")); found {
				t.Inode, ok = hexadecimal(value)
			} else if value, found := bytes.CutPrefix(field, []byte("sdev:")); found {
				t.Device, ok = hexadecimal(value)
			}
			if !ok {
				return to, fmt.Errorf("parse fdinfo: %.40q of tfd: %d is not a hexadecimal number", field, fd)
			}
		}
		to = append(to, t)
	}
	return to, nil
}

// parseAccess takes O_RDONLY, O_WRONLY or O_RDWR from the line "flags:" of
// /proc/PID/fdinfo/N, which is octal (proc_pid_fdinfo(5)).
func parseAccess(info []byte) (mode uint64, ok bool) {
	flags, err := strconv.ParseUint(string(fdinfoLine(info, "flags:")), 8, 64)
	return flags & unix.O_ACCMODE, err == nil
}

// parseSignals takes the set of a signalfd from its line "sigmask:", a bit for
// each signal, that of number 1 the lowest.
func parseSignals(info []byte) (mask uint64, ok bool) {
	return hexadecimal(fdinfoLine(info, "sigmask:"))
}

// fdinfoLine gives the first word of a line, nil where there is none.
func fdinfoLine(info []byte, key string) []byte {
	for len(info) > 0 {
		var line []byte
		line, info, _ = bytes.Cut(info, []byte{'\n'})
		if word, rest := cutSpace(line); string(word) == key {
			word, _ = cutSpace(rest)
			return word
		}
	}
	return nil
}

// cutSpace takes the first word.
func cutSpace(b []byte) (word, rest []byte) {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	end := 0
	for end < len(b) && b[end] != ' ' && b[end] != '\t' {
		end++
	}
	word, rest = b[:end], b[end:]
	for len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
		rest = rest[1:]
	}
	return word, rest
}

// decimal reads 64 bits on every system: inodes have more than 32.
func decimal(b []byte) (int64, bool) {
	negative := len(b) > 1 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	n := int64(0)
	for _, c := range b {
		if c < '0' || c > '9' || n > (math.MaxInt64-9)/10 {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	if negative {
		n = -n
	}
	return n, len(b) > 0
}

func hexadecimal(b []byte) (uint64, bool) {
	var n uint64
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		if n>>60 != 0 {
			return 0, false
		}
		n = n<<4 | uint64(c)
	}
	return n, len(b) > 0
}
