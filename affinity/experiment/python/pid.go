package python

// PID is the number of the interpreter's process; its workers are children of it.
func (s *Session) PID() int { return s.cmd.Process.Pid }
