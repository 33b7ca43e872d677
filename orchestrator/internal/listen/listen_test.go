package listen_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/db"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/dbtest"
	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/listen"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// start runs a Hub until the test ends or the returned function is called.
func start(t *testing.T, url string) (*listen.Hub, context.CancelFunc) {
	t.Helper()
	hub := listen.NewHub(db.Access{URL: url}, slog.New(slog.DiscardHandler))
	ready, done := hub.Subscribe()
	defer done()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- hub.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("hub: %v", err)
		}
	})
	if id := receive(t, ready); id != listen.Missed {
		t.Fatalf("the first word is %d, want %d", id, listen.Missed)
	}
	return hub, cancel
}

func receive(t *testing.T, ids <-chan int64) int64 {
	t.Helper()
	select {
	case id, open := <-ids:
		if !open {
			t.Fatal("the channel is closed")
		}
		return id
	case <-time.After(dbtest.Deadline):
		t.Fatal("nothing comes")
	}
	return 0
}

func TestEachSubscriberGetsEachID(t *testing.T) {
	pool, url := dbtest.Schema(t)
	hub, _ := start(t, url)
	first, cancelFirst := hub.Subscribe()
	defer cancelFirst()
	second, cancelSecond := hub.Subscribe()

	dbtest.Exec(t, pool, "select pg_notify('matview_refresh_channel', '7')")
	for _, ids := range []<-chan int64{first, second} {
		if id := receive(t, ids); id != 7 {
			t.Errorf("got %d, want 7", id)
		}
	}

	cancelSecond()
	dbtest.Exec(t, pool, "select pg_notify('matview_refresh_channel', '8')")
	if id := receive(t, first); id != 8 {
		t.Errorf("got %d, want 8", id)
	}
	if len(second) != 0 {
		t.Error("a subscriber that has left is still notified")
	}
}

// A subscriber that does not read its ids is informed that it missed some, and delays no other.
func TestSlowSubscriberIsToldThatItMissedSome(t *testing.T) {
	pool, url := dbtest.Schema(t)
	hub, _ := start(t, url)
	slow, cancelSlow := hub.Subscribe()
	defer cancelSlow()
	quick, cancelQuick := hub.Subscribe()
	defer cancelQuick()

	dbtest.Exec(t, pool, "select pg_notify('matview_refresh_channel', id::text) from generate_series(1, 5000) as id")
	for id := int64(-1); id != 5000 && id != listen.Missed; {
		id = receive(t, quick)
	}
	// The hub publishes ids one by one: when the quick subscriber has the next id, the slow one was offered
	// all ids before it.
	dbtest.Exec(t, pool, "select pg_notify('matview_refresh_channel', '1001')")
	for receive(t, quick) != 1001 {
	}
	missed := false
	for len(slow) > 0 {
		id := <-slow
		missed = missed || id == listen.Missed
	}
	if !missed {
		t.Error("nothing says that ids were dropped")
	}
}

// Everyone who can log in can notify. During a flood of notifications subscribers query at a limited rate, and
// the last notification still counts.
func TestFloodIsGathered(t *testing.T) {
	const count, most = 5000, 200
	pool, url := dbtest.Schema(t)
	hub, _ := start(t, url)
	ids, cancel := hub.Subscribe()
	defer cancel()

	// Each is in a transaction of its own, because Postgres would merge equal notifications of one
	// transaction.
	dbtest.Exec(t, pool, `
		create procedure flood(count integer) language plpgsql as $$
		begin
		    for i in 1 .. count loop
		        notify matview_refresh_channel, '0';
		        commit;
		    end loop;
		end
		$$`)
	flooded := make(chan error, 1)
	go func() {
		_, err := pool.Exec("call flood($1)", count)
		if err == nil {
			_, err = pool.Exec("select pg_notify('matview_refresh_channel', '7')")
		}
		flooded <- err
	}()
	looks := 1
	for receive(t, ids) != 7 {
		looks++
	}
	if err := <-flooded; err != nil {
		t.Fatal(err)
	}
	if looks > most {
		t.Errorf("%d notifications wake %d times, want %d at most", count, looks, most)
	}

	// After the flood, a single notification is as fast as before.
	time.Sleep(time.Second)
	began := time.Now()
	dbtest.Exec(t, pool, "select pg_notify('matview_refresh_channel', '8')")
	if id := receive(t, ids); id != 8 {
		t.Errorf("got %d, want 8", id)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestLostConnectionIsMadeAgain(t *testing.T) {
	pool, url := dbtest.Schema(t)
	hub, _ := start(t, url)
	ids, cancel := hub.Subscribe()
	defer cancel()

	dbtest.Exec(t, pool, `
		select pg_terminate_backend(pid)
		  from pg_stat_activity
		 where query ilike 'listen %matview_refresh_channel%' and pid <> pg_backend_pid()`)
	if id := receive(t, ids); id != listen.Missed {
		t.Errorf("got %d, want %d", id, listen.Missed)
	}
	dbtest.Exec(t, pool, "select pg_notify('matview_refresh_channel', '9')")
	if id := receive(t, ids); id != 9 {
		t.Errorf("got %d, want 9", id)
	}
}

func TestSubscribersEndWithTheHub(t *testing.T) {
	_, url := dbtest.Schema(t)
	hub, stop := start(t, url)
	before, cancel := hub.Subscribe()
	defer cancel()
	stop()
	dbtest.Eventually(t, dbtest.Deadline, "the channel closes", func() bool {
		select {
		case _, open := <-before:
			return !open
		default:
			return false
		}
	})
	after, cancel := hub.Subscribe()
	defer cancel()
	if _, open := <-after; open {
		t.Error("a hub that has ended takes subscribers")
	}
}

// When the connection is lost as soon as it is made, again and again, the hub reconnects after growing pauses.
func TestConnectionThatIsLostAtOnce(t *testing.T) {
	dbtest.SameOnEveryServer(t)
	t.Parallel()
	const watched, most = 4 * time.Second, 6
	pool, url := dbtest.Schema(t)
	hub, _ := start(t, url+"&application_name=lost")
	for end := time.Now().Add(watched); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		dbtest.Exec(t, pool, `
			select pg_terminate_backend(pid)
			  from pg_stat_activity
			 where application_name = 'lost' and state = 'idle' and query ilike 'listen%'`)
	}
	if reconnects := hub.State().Reconnects; reconnects < 2 || reconnects > most {
		t.Errorf("it was made again %d times in %s, want 2 to %d", reconnects, watched, most)
	}
	dbtest.Eventually(t, dbtest.Deadline, "it listens again", func() bool {
		return hub.State().IsListening
	})
}
