//go:build linux

package tasks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Delays is how long the threads of a process, summed, were held up since they
// began; -1 unknown. The format is that of the kernel's
// Documentation/accounting/taskstats-struct.rst.
type Delays struct {
	Block   time.Duration // for block devices
	Swap    time.Duration // for pages to come back from swap
	Reclaim time.Duration // to free memory for itself
	Thrash  time.Duration // for pages that were dropped shortly before
	Compact time.Duration // to make free memory contiguous
}

var unknownDelays = Delays{-1, -1, -1, -1, -1}

// Since gives what was added since an earlier reading; what either does not
// know is unknown. Threads that end take nothing away from their process.
func (d Delays) Since(earlier Delays) Delays {
	minus := func(a, b time.Duration) time.Duration {
		if a < 0 || b < 0 || a < b {
			return -1
		}
		return a - b
	}
	return Delays{
		minus(d.Block, earlier.Block), minus(d.Swap, earlier.Swap), minus(d.Reclaim, earlier.Reclaim),
		minus(d.Thrash, earlier.Thrash), minus(d.Compact, earlier.Compact),
	}
}

// ParseTaskstats reads a struct taskstats. Its fields were only ever added at
// the end, so that what lies beyond the bytes given is unknown.
func ParseTaskstats(data []byte) (Delays, error) {
	if len(data) < 2 || binary.NativeEndian.Uint16(data) == 0 {
		return unknownDelays, fmt.Errorf("parse taskstats: no version in %d bytes", len(data))
	}
	at := func(offset int) time.Duration {
		if len(data) < offset+8 {
			return -1
		}
		if n := binary.NativeEndian.Uint64(data[offset:]); n < 1<<63 {
			return time.Duration(n)
		}
		return -1
	}
	// Offsets of the kernel's struct, where 64-bit numbers are aligned to eight
	// bytes on every architecture.
	return Delays{Block: at(40), Swap: at(56), Reclaim: at(320), Thrash: at(336), Compact: at(360)}, nil
}

// DelayReader asks the kernel for delays by generic netlink.
type DelayReader struct {
	fd     int
	family uint16
	seq    uint32
	buf    []byte
}

// OpenDelays makes a DelayReader. It needs a kernel with TASKSTATS and
// CAP_NET_ADMIN, and the kernel counts only where the sysctl
// kernel.task_delayacct is 1: the error tells which is missing.
func OpenDelays() (*DelayReader, error) {
	value, err := Proc("").ReadFile("sys/kernel/task_delayacct")
	switch {
	case errors.Is(err, unix.ENOENT): // before Linux 5.14 it was on at boot
	case err != nil:
		return nil, fmt.Errorf("open delay accounting: %w", err)
	case len(value) > 0 && value[0] == '0':
		return nil, errors.New("open delay accounting: kernel.task_delayacct is 0: set it with sysctl kernel.task_delayacct=1")
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, fmt.Errorf("open delay accounting: netlink socket: %w", err)
	}
	r := &DelayReader{fd: fd, buf: make([]byte, 8192)}
	limit := unix.NsecToTimeval(int64(time.Second))
	if err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err == nil {
		var answer []byte
		answer, err = r.ask(unix.GENL_ID_CTRL, unix.CTRL_CMD_GETFAMILY, unix.CTRL_ATTR_FAMILY_NAME, []byte(unix.TASKSTATS_GENL_NAME+"\x00"))
		if id := attribute(answer, unix.CTRL_ATTR_FAMILY_ID); err == nil && len(id) >= 2 {
			r.family = binary.NativeEndian.Uint16(id)
			return r, nil
		}
	}
	unix.Close(fd)
	if err == nil || err == unix.ENOENT {
		err = errors.New("this kernel has no TASKSTATS")
	}
	return nil, fmt.Errorf("open delay accounting: %w", err)
}

// Close ends the use of the reader.
func (r *DelayReader) Close() { unix.Close(r.fd) }

// Process reads the delays of a process, with those of its ended threads.
func (r *DelayReader) Process(pid int) (Delays, error) {
	return r.read(pid, "process", unix.TASKSTATS_CMD_ATTR_TGID, unix.TASKSTATS_TYPE_AGGR_TGID)
}

// Thread reads the delays of one thread.
func (r *DelayReader) Thread(tid int) (Delays, error) {
	return r.read(tid, "thread", unix.TASKSTATS_CMD_ATTR_PID, unix.TASKSTATS_TYPE_AGGR_PID)
}

func (r *DelayReader) read(id int, what string, key, group uint16) (Delays, error) {
	answer, err := r.ask(r.family, unix.TASKSTATS_CMD_GET, key, binary.NativeEndian.AppendUint32(nil, uint32(id)))
	switch {
	case err == unix.EPERM:
		return unknownDelays, fmt.Errorf("read delays of %s %d: needs CAP_NET_ADMIN: %w", what, id, err)
	case err != nil:
		return unknownDelays, about("delays of "+what, id, err)
	}
	return ParseTaskstats(attribute(attribute(answer, group), unix.TASKSTATS_TYPE_STATS))
}

// ask sends a request with one attribute and gives the attributes of the
// answer.
func (r *DelayReader) ask(family uint16, command uint8, key uint16, value []byte) ([]byte, error) {
	r.seq++
	order := binary.NativeEndian
	size := unix.NLMSG_HDRLEN + unix.GENL_HDRLEN + 4 + len(value)
	b := order.AppendUint32(nil, uint32(size))
	b = order.AppendUint16(b, family)
	b = order.AppendUint16(b, unix.NLM_F_REQUEST)
	b = order.AppendUint32(b, r.seq)
	b = order.AppendUint32(b, 0)
	b = append(b, command, 1, 0, 0)
	b = order.AppendUint16(b, uint16(4+len(value)))
	b = order.AppendUint16(b, key)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	order.PutUint32(b, uint32(len(b)))
	if err := unix.Sendto(r.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	for {
		n, _, err := unix.Recvfrom(r.fd, r.buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		answer := r.buf[:n]
		if n < unix.NLMSG_HDRLEN+4 {
			return nil, unix.EBADMSG
		}
		if order.Uint32(answer[8:]) != r.seq {
			continue // of a request that was given up
		}
		if order.Uint16(answer[4:]) == unix.NLMSG_ERROR {
			return nil, unix.Errno(-int32(order.Uint32(answer[unix.NLMSG_HDRLEN:])))
		}
		return answer[unix.NLMSG_HDRLEN+unix.GENL_HDRLEN:], nil
	}
}

// attribute finds a netlink attribute (netlink(7)), nil where it is missing.
func attribute(data []byte, key uint16) []byte {
	const flags = unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER
	for len(data) >= 4 {
		size := int(binary.NativeEndian.Uint16(data))
		if size < 4 || size > len(data) {
			return nil
		}
		if binary.NativeEndian.Uint16(data[2:])&^flags == key {
			return data[4:size]
		}
		data = data[min(len(data), (size+3)&^3):]
	}
	return nil
}
