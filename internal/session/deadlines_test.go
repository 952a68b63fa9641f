package session

import (
	"context"
	"testing"
	"time"
)

// A store waits for the end of the context with context.AfterFunc, whose goroutine
// may look at it just after the request was answered: what is done says why.
func TestAnswerContextSaysWhyItIsDone(t *testing.T) {
	c := newAnswerContext(t.Context(), time.Now())
	done := c.Done()
	if c.Err() != nil {
		t.Fatal(c.Err())
	}
	c.release()
	<-done
	if c.Err() == nil {
		t.Error("done, and no error")
	}
	for range 1000 {
		c := newAnswerContext(t.Context(), time.Now())
		stop := context.AfterFunc(c, func() {})
		stop()
		c.release()
	}
}
