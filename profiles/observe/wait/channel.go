//go:build linux

package wait

import "bytes"

// channels are parts of the names of kernel functions in which threads sleep,
// the first that fits counts. The scheduler's own functions are not seen in
// wchan, but their callers are.
var channels = [...]struct {
	part string
	kind Kind
}{
	{"futex", Lock}, {"vfork", Child}, {"do_wait", Child}, {"kernel_clone", Child}, {"pidfd", Child},
	{"flock", Lock}, {"posix_lock", Lock}, {"fcntl_setlk", Lock}, {"semtimedop", Lock}, {"do_msg", Lock},
	{"rwsem", Lock}, {"mutex", Lock}, {"mmap_read_lock", Lock}, {"lock_mm", Lock},
	{"nanosleep", Sleep}, {"timerfd", Sleep}, {"sigsuspend", Sleep}, {"sigtimedwait", Sleep}, {"sys_pause", Sleep}, {"msleep", Sleep},
	{"pipe", Pipe}, {"fifo_open", Pipe}, {"wait_for_partner", Pipe},
	{"eventfd", Event}, {"signalfd", Event}, {"inotify", Event}, {"fanotify", Event}, {"userfault", Event},
	{"tty", Terminal},
	{"folio_", Disk}, {"page_bit", Disk}, {"on_page", Disk}, {"lock_page", Disk}, {"filemap", Disk}, {"io_schedule", Disk},
	{"jbd2", Disk}, {"ext4_", Disk}, {"xfs_", Disk}, {"xlog_", Disk}, {"btrfs_", Disk}, {"f2fs_", Disk}, {"nfs_wait", Disk}, {"nfs4_", Disk}, {"fuse", Disk},
	{"request_wait_answer", Disk}, {"cifs", Disk}, {"smb", Disk}, {"ceph", Disk}, {"rpc_wait", Disk},
	{"submit_bio", Disk}, {"blk_", Disk}, {"blkdev", Disk}, {"bio_", Disk}, {"iomap", Disk}, {"rq_qos", Disk}, {"wbt_", Disk},
	{"on_buffer", Disk}, {"on_bit_io", Disk}, {"writeback", Disk}, {"wb_wait", Disk}, {"balance_dirty", Disk},
	{"swap_", Disk}, {"read_events", Disk}, {"wait_on_inode", Disk}, {"dquot", Disk},
	{"tcp_", Network}, {"udp", Network}, {"inet_", Network}, {"unix_", Network}, {"sk_wait", Network}, {"sk_stream", Network}, {"skb_", Network},
	{"sock", Network}, {"netlink", Network}, {"packet_", Network},
}

// channelKind judges by the file wchan: the name of a function, or 0 where the
// thread does not wait or the name is withheld. What waits for one of several
// descriptors cannot be told by it.
func channelKind(name []byte) Kind {
	name = bytes.TrimRight(name, "\n")
	if len(name) == 0 || string(name) == "0" ||
		bytes.Contains(name, []byte("poll")) || bytes.HasPrefix(name, []byte("do_select")) {
		return Unknown
	}
	for i := range channels {
		if containsText(name, channels[i].part) {
			return channels[i].kind
		}
	}
	return Other
}

// containsText is bytes.Contains without a copy of the text.
func containsText(b []byte, text string) bool {
	for len(b) >= len(text) {
		i := bytes.IndexByte(b, text[0])
		if i < 0 || len(b)-i < len(text) {
			return false
		}
		if string(b[i:i+len(text)]) == text {
			return true
		}
		b = b[i+1:]
	}
	return false
}
