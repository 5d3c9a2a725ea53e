package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pipelined/pipelined/sdk"
)

func TestClasses(t *testing.T) {
	cause := errors.New("connection refused")
	status := &sdk.Error{Class: sdk.ClassRetry, Code: 14, Message: "unavailable", Delay: time.Second}
	for _, tc := range []struct {
		name    string
		err     error
		class   sdk.Class
		code    uint32
		message string
		delay   time.Duration
	}{
		{"unclassified", cause, sdk.ClassRetry, 2, "connection refused", 0},
		{"retry", sdk.Retry(cause, time.Minute), sdk.ClassRetry, 2, "connection refused", time.Minute},
		{"permanent", sdk.Permanent(cause), sdk.ClassPermanent, 2, "connection refused", 0},
		{"disconnected", sdk.Disconnected(cause), sdk.ClassDisconnected, 2, "connection refused", 0},
		{"wrapped", fmt.Errorf("send: %w", sdk.Permanent(cause)), sdk.ClassPermanent, 2, "send: connection refused", 0},
		{"wrapped twice", fmt.Errorf("a: %w", fmt.Errorf("b: %w", status)), sdk.ClassRetry, 14, "a: b: unavailable", time.Second},
		{"the last class counts", sdk.Permanent(sdk.Retry(cause, time.Minute)), sdk.ClassPermanent, 2, "connection refused", 0},
		{"the code stays", sdk.Permanent(fmt.Errorf("a: %w", status)), sdk.ClassPermanent, 14, "a: unavailable", 0},
		{"joined", errors.Join(io.EOF, status), sdk.ClassRetry, 14, "EOF\nunavailable", time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := sdk.AsError(tc.err)
			assert.Equal(t, tc.class, e.Class)
			assert.Equal(t, tc.code, e.Code)
			assert.Equal(t, tc.message, e.Message)
			assert.Equal(t, tc.message, e.Error())
			assert.Equal(t, tc.delay, e.Delay)
			assert.Same(t, e, sdk.AsError(e))
		})
	}
	assert.Equal(t, "unavailable", status.Message, "nothing is changed in place")
}

func TestCausesAreFound(t *testing.T) {
	for _, classify := range []func(error) error{
		sdk.Permanent, sdk.Disconnected, func(err error) error { return sdk.Retry(err, 0) },
		func(err error) error { return sdk.AsError(err) },
		func(err error) error { return sdk.AsError(fmt.Errorf("more: %w", sdk.Permanent(err))) },
	} {
		require.ErrorIs(t, classify(fmt.Errorf("finish: %w", sdk.ErrEndedEarly)), sdk.ErrEndedEarly)
		require.ErrorIs(t, classify(context.Canceled), context.Canceled)
	}
}

func TestNilStaysNil(t *testing.T) {
	require.NoError(t, sdk.Retry(nil, time.Second))
	require.NoError(t, sdk.Permanent(nil))
	require.NoError(t, sdk.Disconnected(nil))
}

func TestRefusedString(t *testing.T) {
	assert.Equal(t, `row 3, channel "a b": too long`, sdk.Refused{Row: 3, Channel: "a b", Reason: "too long"}.String())
}

func TestUnbound(t *testing.T) {
	unbound := sdk.Unbound()
	for _, id := range []string{unbound.ConfigID, unbound.RunID} {
		assert.Len(t, id, sdk.BindingIDBytes)
		assert.Contains(t, id, sdk.UnboundPrefix)
	}
	assert.NotEqual(t, unbound.ConfigID, unbound.RunID)
}

func TestKindNames(t *testing.T) {
	for kind, want := range map[sdk.Kind]string{
		sdk.KindSource: "source", sdk.KindEncoder: "encoder", sdk.KindTransport: "transport",
		sdk.KindEvaluator: "evaluator", 0: "unknown kind",
	} {
		assert.Equal(t, want, kind.String())
	}
}

func TestText(t *testing.T) {
	for want, e := range map[string]*sdk.Error{
		"UNAUTHENTICATED: no key":  {Code: 16, Message: "no key"},
		"the disk is gone":         {Code: sdk.CodeUnknown, Message: "the disk is gone"},
		"nobody set a code":        {Message: "nobody set a code"},
		"UNKNOWN: a made-up code":  {Code: 4711, Message: "a made-up code"},
		"UNAVAILABLE: going down.": {Code: 14, Message: "going down."},
	} {
		assert.Equal(t, want, e.Text())
	}
}
