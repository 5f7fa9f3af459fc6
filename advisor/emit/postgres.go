package emit

import "berth/advisor"

// postgresql is a file for postgresql.conf's include_dir (PostgreSQL manual,
// chapter "Server Configuration"). A task of the plan is a query, and each
// connection is a process of the server.
type postgresql struct{}

func (postgresql) Name() string { return "postgresql" }
func (postgresql) About() string {
	return "postgresql.conf: max_connections and parallel workers, one query to a task"
}

const (
	postgresReserved = 3 // superuser_reserved_connections, the default
	postgresWorkers  = 8 // max_worker_processes, the default
)

func (postgresql) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	s.comment("conf.d/%s.conf, for include_dir; the server takes it at its next start. A task of the plan is a query.", DropIn)
	n := p.AtOnce()
	helpers := max(0, p.Workers.Inner-1) // beside the backend that leads
	s.cannotSeat(p, "the server gives its processes none; the service's mask holds all of them (--emit systemd)")
	s.cannotBindMemory(places(p))
	s.cannotLimit(p, "set it on the service (--emit systemd)")
	if p.MemoryMiB != nil {
		s.cannot("memory of %.0f MiB: shared_buffers and work_mem divide it, and the plan does not say how", *p.MemoryMiB)
	}
	s.comment("%d queries at a time. Clients that hold connections without a query need a pool in front (--emit pgbouncer), not more of these.", n)
	s.line("max_connections = %d", n+postgresReserved)
	s.line("superuser_reserved_connections = %d", postgresReserved)
	if helpers == 0 {
		s.comment("The connections have the CPUs, so a query gets no helpers.")
	} else {
		s.comment("Each query may have %d helpers beside its own process.", helpers)
	}
	all := min(p.Workers.Processes*p.Workers.Threads*helpers, 1024) // PostgreSQL's most
	s.line("max_worker_processes = %d", postgresWorkers+all)
	s.line("max_parallel_workers = %d", all)
	s.line("max_parallel_workers_per_gather = %d", min(helpers, 1024))
	s.line("max_parallel_maintenance_workers = %d", min(helpers, 1024))
	return s.settings()
}

// pgbouncer is a file for pgbouncer.ini's %include (pgbouncer.org,
// "Configuration"): a pool that lets through as many queries as are planned.
type pgbouncer struct{}

func (pgbouncer) Name() string { return "pgbouncer" }
func (pgbouncer) About() string {
	return "pgbouncer.ini: the pool in front of PostgreSQL, as many connections as tasks at a time"
}

func (pgbouncer) Emit(p *advisor.Plan) Settings {
	s := &sheet{}
	s.title(p)
	s.comment("For %%include at the end of section [pgbouncer] in pgbouncer.ini; no section begins here, for a second one of that name would take back the first. A task of the plan is a transaction; more of them wait for a connection.")
	n := p.AtOnce()
	s.cannotSeat(p, "PgBouncer is one thread, and the seats are those of the server's processes")
	s.cannotBindMemory(places(p))
	s.cannotLimit(p, "it is that of the server")
	s.line("pool_mode = transaction")
	s.line("default_pool_size = %d", n)
	s.line("max_db_connections = %d", n)
	s.line("reserve_pool_size = 0")
	s.comment("How many clients may wait: PgBouncer's default, or as many as are served at a time. The plan does not know yours.")
	s.line("max_client_conn = %d", max(100, n))
	return s.settings()
}
