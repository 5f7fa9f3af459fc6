//go:build linux

package tasks

import (
	"time"

	"golang.org/x/sys/unix"
)

// follow begins to watch a process. Born says to count what it did already.
func (s *Sampler) follow(pid int, born bool) error {
	st, name, err := s.processStat(pid)
	if err != nil {
		return err
	}
	p := &process{threads: map[int]*thread{}, used: st.User + st.System}
	p.WatchedProcess = WatchedProcess{
		PID: pid, Parent: st.Parent, Name: string(name), Start: st.Start, First: s.now, Last: s.now, UsedAt: s.now,
	}
	if born {
		p.Used = p.used
	}
	if err := s.list(p, born); err != nil {
		s.close(&p.task)
		return err
	}
	s.byPID[pid] = p
	s.procs = append(s.procs, p)
	return nil
}

// census looks for births in a process and reports whether it lives on.
func (s *Sampler) census(p *process) bool {
	n, err := s.countThreads(p)
	if err == nil && (n != len(p.threads) || p.renewed || p.alive == 0) {
		err = s.list(p, true)
	}
	switch {
	case isGone(err):
	case err != nil:
		s.missed++
		return true
	case p.alive > 0:
		return true
	default:
		s.readUsed(p)
	}
	for _, t := range p.threads {
		if !t.Ended {
			s.end(t)
		}
	}
	s.close(&p.task)
	delete(s.byPID, p.PID)
	p.Ended = true
	s.past = append(s.past, p.WatchedProcess)
	return false
}

// countThreads gives the number of threads, zombies included, by the link
// count of the directory task; -1 where the file system does not keep one.
func (s *Sampler) countThreads(p *process) (int, error) {
	fd, kept, err := s.hold(&p.task, p.PID, 0, "task", unix.O_DIRECTORY)
	if err != nil {
		return 0, err
	}
	links, err := s.countLinks(fd)
	s.release(fd, kept)
	links -= 2
	switch {
	case err != nil:
		return 0, err
	case links == 0:
		return 0, unix.ESRCH
	case links < 0:
		return -1, nil
	}
	return links, nil
}

// list reads the directory of a process's threads, takes up the new ones and
// drops those that are not there. Born says that new ones began in the watch.
func (s *Sampler) list(p *process, born bool) error {
	revived, err := s.checkLeader(p)
	if err != nil {
		return err
	}
	fd, kept, err := s.hold(&p.task, p.PID, 0, "task", unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	s.entries, err = appendEntries(s.entries[:0], fd, s.buf)
	s.release(fd, kept)
	if err != nil {
		return err
	}
	s.listing++
	for _, e := range s.entries {
		t := p.threads[e.id]
		if t == nil {
			t, err = s.begin(p, e.id, born && !(revived && e.id == p.PID))
			if err != nil {
				if !isGone(err) {
					s.missed++ // the count of links will bring us here again
				}
				continue
			}
		}
		t.listing = s.listing
	}
	for tid, t := range p.threads {
		// While threads end, the kernel may leave out others that live.
		if t.listing != s.listing && !s.isThere(t) {
			if !t.Ended {
				s.end(t)
			}
			delete(p.threads, tid)
		}
	}
	p.renewed = false
	return nil
}

// checkLeader makes sure that the number of the process is still its own. The
// first thread of a process that ended stays as a zombie until the others have
// too; it revives where another one calls execve(2) and takes over its number.
func (s *Sampler) checkLeader(p *process) (revived bool, err error) {
	leader := p.threads[p.PID]
	if leader != nil && !leader.Ended {
		return false, nil
	}
	st, _, err := s.processStat(p.PID)
	if err == nil && st.Start != p.Start {
		err = unix.ESRCH
	}
	if err != nil || leader == nil || st.State.over() {
		return false, err
	}
	delete(p.threads, p.PID)
	return true, nil
}

// isThere looks by number, not by an open descriptor.
func (s *Sampler) isThere(t *thread) bool {
	data, err := s.readOnce(t.PID, t.TID, "stat")
	if err != nil {
		return !isGone(err)
	}
	var st Stat
	_, err = st.parse(data)
	return err != nil || t.Start < 0 || st.Start == t.Start
}

// begin takes up a thread.
func (s *Sampler) begin(p *process, tid int, born bool) (*thread, error) {
	t := &thread{process: p, born: born}
	t.PID, t.TID, t.First, t.Status, t.Migrations = p.PID, tid, s.now, unknownStatus, -1
	t.Used = Counters{SchedStat{-1, -1, -1}, -1, -1, -1, -1, -1, -1}
	if !born {
		t.SchedStat, t.migrations = SchedStat{-1, -1, -1}, -1
		t.User, t.System, t.MinorFaults, t.MajorFaults = -1, -1, -1, -1
	}
	t.CPU, t.Start = -1, -1
	account, err := s.readSchedStat(t)
	if err == nil && s.isSpared(t) {
		s.run(t, account)
	} else if err == nil {
		var st Stat
		var name []byte
		if st, name, err = s.readStat(t); err == nil {
			s.account(t, account, st, name)
		}
	}
	if err != nil {
		s.closeThread(t)
		return nil, err
	}
	t.ran, p.ran = true, true // so that the rest is read soon
	p.threads[tid] = t
	p.alive++
	if t.State.over() {
		s.readStatus(t) // as at every end
		s.end(t)
	} else {
		s.live = append(s.live, t)
	}
	return t, nil
}

// search looks for the children of followed processes among all there are.
type search struct {
	seen map[int]sighting
	due  bool
	at   time.Time
	cost time.Duration
	list uint
	new  []newcomer
}

// sighting is a process that was looked at: one that is not followed.
type sighting struct {
	inode uint64
	list  uint // the latest that had it
}

type newcomer struct {
	pid, parent int
	start       time.Duration
}

// findChildren lists the machine's processes, asks those not seen before for
// their parents and follows the children of followed ones.
func (s *Sampler) findChildren(born bool) {
	c := &s.children
	began := time.Now()
	c.due = false
	if err := s.lookAround(); err != nil {
		s.missed++
		c.due = true
	}
	for again := true; again; {
		again = false
		for i, n := range c.new {
			parent := s.byPID[n.parent]
			if n.pid == 0 || parent == nil || n.start < parent.Start {
				continue
			}
			if err := s.follow(n.pid, born); err != nil && !isGone(err) {
				s.missed++
				c.due = true
				delete(c.seen, n.pid)
			}
			c.new[i].pid = 0
			again = true
		}
	}
	c.at, c.cost = s.now, time.Since(began)
}

// lookAround lists the processes and gathers the new ones.
func (s *Sampler) lookAround() error {
	c := &s.children
	c.new = c.new[:0]
	fd, err := s.open(0, 0, "", unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	s.entries, err = appendEntries(s.entries[:0], fd, s.buf)
	unix.Close(fd)
	if err != nil {
		return err
	}
	c.list++
	for _, e := range s.entries {
		if old, ok := c.seen[e.id]; ok && old.inode == e.inode || s.byPID[e.id] != nil {
			c.seen[e.id] = sighting{e.inode, c.list}
			continue
		}
		st, _, statErr := s.processStat(e.id)
		switch {
		case statErr == nil:
			c.new = append(c.new, newcomer{e.id, st.Parent, st.Start})
		case isGone(statErr):
			continue
		case statErr != unix.EACCES && statErr != unix.EPERM: // hidepid: not ours to see
			err = statErr
			continue
		}
		c.seen[e.id] = sighting{e.inode, c.list}
	}
	for pid, at := range c.seen {
		if at.list != c.list {
			delete(c.seen, pid)
		}
	}
	return err
}
