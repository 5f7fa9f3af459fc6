//go:build linux

package python

import (
	"net"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestServerAnswersItsUserAlone(t *testing.T) {
	s, err := serve(0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	name := s.listener.Addr().String()
	conn, err := net.Dial("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b := make([]byte, 1)
	if n, err := conn.Read(b); n != 1 || err != nil {
		t.Errorf("this user is not greeted: %d, %v", n, err)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	greeted := make(chan int, 1)
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread is another user's, and ends with the goroutine
		const same = ^uintptr(0)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, 12345, same); errno != 0 {
			failed <- errno
			return
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			failed <- err
			return
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
			failed <- err
			return
		}
		n, _ := unix.Read(fd, make([]byte, 1))
		greeted <- n
	}()
	select {
	case n := <-greeted:
		if n > 0 {
			t.Error("another user is greeted")
		}
	case err := <-failed:
		t.Fatal(err)
	}
}
