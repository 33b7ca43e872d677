package events

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/yingw787/tinydevcrm-mvp/orchestrator/internal/web/parts"
)

// rememberedEvents bounds how many sent ids a stream remembers.
const rememberedEvents = 20_000

// An eventStream writes server-sent events, each only once, although everyone who can log in can notify of old
// events again and again.
type eventStream struct {
	writer  http.ResponseWriter
	control *http.ResponseController
	filter  filter
	// role is the role of the user who reads; 0 for none.
	role int64
	// sent are the ids above the floor that were sent. Ids up to the floor are no longer sent.
	sent          map[int64]struct{}
	floor, lastID int64
	// after is the event after which the client asked for others.
	after int64
}

// has reports whether an event was sent, or is too old to be sent.
func (s *eventStream) has(id int64) bool {
	_, isSent := s.sent[id]
	return isSent || id <= max(s.floor, 0)
}

// recent are the ids that were sent and are close to the last one.
func (s *eventStream) recent() []int64 {
	var ids []int64
	for id := range s.sent {
		if id > s.lastID-idMargin {
			ids = append(ids, id)
		}
	}
	return ids
}

// send writes a text and then the messages. They come newest first, and are written oldest first.
func (s *eventStream) send(text string, messages []parts.Message) error {
	body := bytes.NewBufferString(text)
	for _, message := range slices.Backward(messages) {
		if _, isSent := s.sent[message.ID]; isSent {
			continue
		}
		s.sent[message.ID] = struct{}{}
		s.lastID = max(s.lastID, message.ID)
		fmt.Fprintf(body, "id: %d\nevent: refresh\ndata: %s\n\n", message.ID, message.Data)
	}
	s.forget()
	if body.Len() == 0 {
		return nil
	}

	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := s.writer.Write(body.Bytes()); err != nil {
		return fmt.Errorf("write to the event stream: %w", err)
	}
	if err := s.control.Flush(); err != nil {
		return fmt.Errorf("flush the event stream: %w", err)
	}
	return nil
}

// forget raises the floor when too many ids are remembered.
func (s *eventStream) forget() {
	if len(s.sent) <= rememberedEvents {
		return
	}
	s.floor = s.lastID - idMargin
	for id := range s.sent {
		if id <= s.floor {
			delete(s.sent, id)
		}
	}
}
