// Lab spin: computes and allocates. Lab lock N: N threads enter one monitor,
// each computing 50 µs in it and 10 µs outside; prints each second which share
// of their time went into entering. Lab idle: a server that nobody asks.
import java.net.ServerSocket;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicLong;

public class Lab {
    static final Object monitor = new Object();
    static final AtomicLong waited = new AtomicLong();
    static volatile long sink;

    static void compute(long ns) {
        for (long until = System.nanoTime() + ns; System.nanoTime() < until;) {
        }
    }

    static void turns() {
        for (;;) {
            long from = System.nanoTime();
            synchronized (monitor) {
                waited.addAndGet(System.nanoTime() - from);
                compute(50_000);
            }
            compute(10_000);
        }
    }

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
        case "spin":
            for (long n = 1;; n++) {
                byte[] some = new byte[1024];
                for (int i = 0; i < some.length; i++) some[i] = (byte) (n * i);
                sink += some[(int) (n & 1023)];
            }
        case "lock":
            int n = Integer.parseInt(args[1]);
            long from = System.nanoTime();
            for (int i = 0; i < n; i++) new Thread(Lab::turns).start();
            for (;;) {
                Thread.sleep(1000);
                System.out.printf("waited %.3f%n", (double) waited.get() / n / (System.nanoTime() - from));
            }
        case "idle":
            var pool = Executors.newFixedThreadPool(4);
            try (var server = new ServerSocket(0)) {
                for (;;) {
                    var client = server.accept();
                    pool.submit(() -> {
                        client.close();
                        return null;
                    });
                }
            }
        }
    }
}
