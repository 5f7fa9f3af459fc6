//go:build linux

package python

import (
	"crypto/rand"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// server answers each byte that it is sent by one, after a while, and greets
// each connection by one at once. It is a socket of the abstract kind (unix(7)),
// for which neither a file nor a network is needed.
type server struct {
	listener net.Listener
	delay    time.Duration

	mu    sync.Mutex
	conns map[net.Conn]bool // nil when closed
}

func serve(delay time.Duration) (*server, error) {
	l, err := net.Listen("unix", "@berth-slow-"+rand.Text())
	if err != nil {
		return nil, err
	}
	s := &server{listener: l, delay: delay, conns: map[net.Conn]bool{}}
	go s.accept()
	return s, nil
}

// address is as Python writes it.
func (s *server) address() string { return "\x00" + s.listener.Addr().String()[1:] }

func (s *server) accept() {
	for {
		conn, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors: who waits for the greeting gives up.
			time.Sleep(10 * time.Millisecond)
			continue
		}
		s.mu.Lock()
		if s.conns == nil || !ours(conn) {
			conn.Close()
		} else {
			s.conns[conn] = true
			go s.answer(conn)
		}
		s.mu.Unlock()
	}
}

// ours reports whether this user is at the other end: the socket's name is for
// anybody to read in /proc/net/unix.
func ours(conn net.Conn) bool {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var peer *unix.Ucred
	if control := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); control != nil {
		return false
	}
	return err == nil && int(peer.Uid) == os.Geteuid()
}

func (s *server) answer(conn net.Conn) {
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	line := []byte{'\n'}
	for {
		if _, err := conn.Write(line); err != nil {
			return
		}
		if _, err := conn.Read(line); err != nil {
			return
		}
		time.Sleep(s.delay)
	}
}

func (s *server) close() {
	s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
	s.conns = nil
}
