//go:build linux

package wait

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseSyscall(t *testing.T) {
	for _, c := range []struct {
		text string
		want Call
		ok   bool
	}{
		{"running\n", Call{Running: true, Number: -1}, true},
		{"-1 0x7ffd10 0x55aa\n", Call{Number: -1, SP: 0x7ffd10, PC: 0x55aa}, true},
		{"202 0x55c3034c4860 0x189 0x0 0x0 0x0 0xffffffff 0x7f94322ed950 0x7f94328a3f16\n",
			Call{Number: 202, Args: [6]uint64{0x55c3034c4860, 0x189, 0, 0, 0, 0xffffffff}, SP: 0x7f94322ed950, PC: 0x7f94328a3f16}, true},
		{"0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", Call{}, true},
		{"", Call{Number: -1}, false},
		{"-1\n", Call{Number: -1}, false},
		{"-2 0x0 0x0\n", Call{Number: -1}, false},
		{"1 0x0 0x0\n", Call{Number: -1}, false},
		{"1 0x1ffffffffffffffff 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", Call{Number: -1}, false},
		{"1 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", Call{Number: -1}, false},
		{"1 0 0 0 0 0 0 0 0\n", Call{Number: -1}, false},
	} {
		got, err := ParseSyscall([]byte(c.text))
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%q: got %+v, %v; want %+v", c.text, got, err, c.want)
		}
	}
}

func TestParseFdinfoTargets(t *testing.T) {
	const text = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1044\n" +
		"tfd:        5 events:       1f data:                5  pos:0 ino:f3481 sdev:9\n" +
		"tfd:       12 events:       19 data:     7f9400000003\n" +
		"tfd:        7 events: 19 data: 7f94"
	got, err := ParseFdinfoTargets(nil, []byte(text))
	want := []Target{{5, 0xf3481, 9}, {FD: 12}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, bad := range []string{"tfd: x\n", "tfd: -3\n", "tfd: 3 ino:zz\n", "tfd:\n"} {
		if _, err := ParseFdinfoTargets(nil, []byte(bad)); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

func TestParseFdinfo(t *testing.T) {
	const (
		pipe   = "pos:\t0\nflags:\t02000001\nmnt_id:\t16\nino:\t340597\n"
		signal = "pos:\t0\nflags:\t02004002\nmnt_id:\t17\nino:\t1038\nsigmask:\t0000000000400000\n"
	)
	for _, c := range []struct {
		text     string
		mode     uint64
		modeOK   bool
		signals  uint64
		signalOK bool
	}{
		{pipe, unix.O_WRONLY, true, 0, false},
		{signal, unix.O_RDWR, true, 1 << (unix.SIGURG - 1), true},
		{"", 0, false, 0, false},
		{"flags:\t\nsigmask:\n", 0, false, 0, false},
		{"flags:\t09\nsigmask:\tx\n", 0, false, 0, false},
		{"sigmask:\t10000000000000000\n", 0, false, 0, false},
	} {
		mode, modeOK := parseAccess([]byte(c.text))
		if modeOK != c.modeOK || modeOK && mode != c.mode {
			t.Errorf("%q: mode %d, %v; want %d, %v", c.text, mode, modeOK, c.mode, c.modeOK)
		}
		signals, signalOK := parseSignals([]byte(c.text))
		if signalOK != c.signalOK || signalOK && signals != c.signals {
			t.Errorf("%q: signals %#x, %v; want %#x, %v", c.text, signals, signalOK, c.signals, c.signalOK)
		}
	}
}

func TestChannelKind(t *testing.T) {
	for name, want := range map[string]Kind{
		"0": Unknown, "": Unknown, "do_epoll_wait": Unknown, "poll_schedule_timeout.constprop.0": Unknown, "do_select": Unknown,
		"folio_wait_bit_common": Disk, "jbd2_log_wait_commit": Disk, "rq_qos_wait": Disk, "request_wait_answer": Disk,
		"futex_do_wait": Lock, "do_semtimedop": Lock, "kernel_clone": Child, "do_wait": Child, "wait_for_vfork_done": Child,
		"anon_pipe_read": Pipe, "unix_stream_read_generic": Network, "sk_wait_data": Network, "inet_csk_accept": Network,
		"hrtimer_nanosleep": Sleep, "n_tty_read": Terminal, "io_cqring_wait": Other, "kernfs_fop_read_iter": Other, "task_work_run": Other,
	} {
		if got := channelKind([]byte(name)); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestLinkKind(t *testing.T) {
	for link, want := range map[string]Kind{
		"socket:[3000000001]": Network, "pipe:[7]": Pipe, "anon_inode:[eventpoll]": Event, "anon_inode:inotify": Event, "anon_inode:[eventfd]": Wakeup, "anon_inode:[signalfd]": Event,
		"anon_inode:[timerfd]": Sleep, "anon_inode:[pidfd]": Child, "pidfd:[12]": Child, "anon_inode:kvm-vcpu:0": Device, "anon_inode:[io_uring]": Other,
		"/dev/pts/3": Terminal, "/dev/tty": Terminal, "/dev/nvidia0": Device, "/dev/shm/x": Disk, "/var/lib/x (deleted)": Disk, "/proc/mounts": Event, "": Other,
	} {
		if got, _, inode := linkKind([]byte(link)); got != want || (inode != 0) != (want == Network || want == Pipe) {
			t.Errorf("%s: got %v inode %d, want %v", link, got, inode, want)
		}
	}
}

func TestParseSocket(t *testing.T) {
	for _, c := range []struct {
		line  string
		tcp   bool
		inode uint64
	}{
		{"   0: 0100007F:0277 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17215 1 0000000000000000 100 0", true, 17215},
		{"   1: 0100007F:0277 0100007F:9000 01 00000000:00000000 00:00000000 00000000     0        0 17216 1 0000000000000000 100 0", true, 0},
		{"0000000000000000: 00000002 00000000 00010000 0001 01 3000017215 /run/x.sock", false, 3000017215},
		{"0000000000000000: 00000003 00000000 00000000 0001 03 17217", false, 0},
		{"", true, 0}, {"a b c 0A", true, 0},
	} {
		if inode, listens := parseSocket([]byte(c.line), c.tcp); inode != c.inode || listens != (c.inode != 0) {
			t.Errorf("%q: got %d, %v; want %d", c.line, inode, listens, c.inode)
		}
	}
}

func FuzzParseSyscall(f *testing.F) {
	for _, s := range []string{"running\n", "-1 0x7ffd10 0x55aa\n", "202 0x5 0x189 0x0 0x0 0x0 0xffffffff 0x7f 0x7f\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ParseSyscall(data); err == nil && c.Number < -1 {
			t.Errorf("%q: call %d", data, c.Number)
		}
	})
}

func FuzzParseLists(f *testing.F) {
	f.Add([]byte("tfd:        5 events:       1f data:                5  pos:0 ino:f3481 sdev:9\n"))
	f.Add([]byte("pos:\t0\nflags:\t02000001\nmnt_id:\t17\nino:\t1038\nsigmask:\t0000000000400000\n"))
	f.Add([]byte("   0: 0100007F:0277 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17215 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, _ := ParseFdinfoTargets(nil, data)
		if n := strings.Count(string(data), "tfd:"); len(list) > n {
			t.Errorf("%d targets of %d lines", len(list), n)
		}
		for _, tcp := range []bool{true, false} {
			if inode, listens := parseSocket(data, tcp); listens == (inode == 0) {
				t.Errorf("%q: inode %d, listens %v", data, inode, listens)
			}
		}
		if mask, ok := parseSignals(data); ok {
			if want, err := strconv.ParseUint(string(fdinfoLine(data, "sigmask:")), 16, 64); err != nil || mask != want {
				t.Errorf("%q: signals %#x, want %#x, %v", data, mask, want, err)
			}
		}
		if mode, ok := parseAccess(data); ok && mode > unix.O_ACCMODE {
			t.Errorf("%q: mode %d", data, mode)
		}
		linkKind(data)
		channelKind(data)
	})
}

// FuzzChannel: the first part in the list that is in the name decides.
func FuzzChannel(f *testing.F) {
	for _, text := range []string{"0", "", "futex_wait_queue\n", "do_poll.constprop.0", "do_select", "tcp_recvmsg", "folio_wait_bit_common", "ffutex", "sk_waitpipe"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, name []byte) {
		want := Other
		text := strings.TrimRight(string(name), "\n")
		if text == "" || text == "0" || strings.Contains(text, "poll") || strings.HasPrefix(text, "do_select") {
			want = Unknown
		} else {
			for i := len(channels) - 1; i >= 0; i-- {
				if strings.Contains(text, channels[i].part) {
					want = channels[i].kind
				}
			}
		}
		if got := channelKind(name); got != want {
			t.Fatalf("%q: %v, want %v", name, got, want)
		}
	})
}
