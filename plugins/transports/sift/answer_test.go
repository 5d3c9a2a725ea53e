package sift

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/pipelined/pipelined/internal/sifttest"
	"github.com/pipelined/pipelined/plugins/transports/sift/h2"
	"github.com/pipelined/pipelined/sdk"
)

func fields(pairs ...string) []hpack.HeaderField {
	var out []hpack.HeaderField
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return out
}

func TestJudge(t *testing.T) {
	headers := fields(":status", "200", "content-type", "application/grpc+proto")
	ok := fields("grpc-status", "0")
	for _, tc := range []struct {
		name string
		r    h2.Response
		code codes.Code
	}{
		{"OK", h2.Response{Headers: headers, Trailers: ok, Body: []byte{0, 0, 0, 0, 0}}, codes.OK},
		{"OK, compressed", h2.Response{Headers: headers, Trailers: ok, Body: []byte{1, 0, 0, 0, 2, 7, 7}}, codes.OK},
		{"no message", h2.Response{Headers: headers, Trailers: ok}, codes.Internal},
		{"two messages", h2.Response{Headers: headers, Trailers: ok, Body: make([]byte, 10)}, codes.Internal},
		{"half a message", h2.Response{Headers: headers, Trailers: ok, Body: []byte{0, 0, 0, 0, 2, 7}}, codes.Internal},
		{"absurd length", h2.Response{Headers: headers, Trailers: ok, Body: []byte{0, 0xff, 0xff, 0xff, 0xff}}, codes.Internal},
		{"bad flag", h2.Response{Headers: headers, Trailers: ok, Body: []byte{2, 0, 0, 0, 0}}, codes.Internal},
		{"no trailers", h2.Response{Headers: headers, Body: make([]byte, 5)}, codes.Unknown},
		{"no status", h2.Response{Headers: headers, Trailers: fields("x", "y")}, codes.Unknown},
		{"not a number", h2.Response{Headers: headers, Trailers: fields("grpc-status", "-1")}, codes.Unknown},
		{"trailers only", h2.Response{Headers: fields(":status", "200", "grpc-status", "7")}, codes.PermissionDenied},
		{"status in spite of HTTP", h2.Response{Headers: fields(":status", "503", "grpc-status", "7")}, codes.PermissionDenied},
		{"OK, then lost", h2.Response{Headers: headers, Body: make([]byte, 5), Err: h2.ErrClosed}, codes.Unavailable},
		{"reset", h2.Response{Err: &h2.ResetError{Code: http2.ErrCodeInternal}}, codes.Internal},
		{"reset without a reason", h2.Response{Err: &h2.ResetError{Code: http2.ErrCodeNo}}, codes.Internal},
		{"refused", h2.Response{Err: &h2.ResetError{Code: http2.ErrCodeRefusedStream}}, codes.Unavailable},
		{"canceled", h2.Response{Err: &h2.ResetError{Code: http2.ErrCodeCancel}}, codes.Canceled},
		{"calm", h2.Response{Err: &h2.ResetError{Code: http2.ErrCodeEnhanceYourCalm}}, codes.ResourceExhausted},
		{"insecure", h2.Response{Err: &h2.ResetError{Code: http2.ErrCodeInadequateSecurity}}, codes.PermissionDenied},
		{"going away", h2.Response{Err: &h2.GoAwayError{Code: http2.ErrCodeNo, Debug: "bye"}}, codes.Unavailable},
		{"broken rules", h2.Response{Err: &h2.ProtocolError{Reason: "x"}}, codes.Internal},
		{"given up", h2.Response{Err: h2.ErrReset}, codes.Canceled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := judge(tc.r)
			if tc.code == codes.OK {
				require.NoError(t, err)
				return
			}
			e := requireFailure(t, err, classOf(tc.code), uint32(tc.code))
			assert.NotEmpty(t, e.Message)
		})
	}
}

func TestClasses(t *testing.T) {
	permanent := map[codes.Code]bool{
		codes.InvalidArgument: true, codes.NotFound: true, codes.AlreadyExists: true, codes.PermissionDenied: true,
		codes.FailedPrecondition: true, codes.OutOfRange: true, codes.Unimplemented: true, codes.Unauthenticated: true,
	}
	names := make(map[string]bool)
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		want := sdk.ClassRetry
		if permanent[code] {
			want = sdk.ClassPermanent
		} else if code == codes.Unavailable {
			want = sdk.ClassDisconnected
		}
		assert.Equal(t, want, classOf(code), "%v", code)
		names[sdk.StatusName(uint32(code))] = true
	}
	assert.Len(t, names, 17)
	assert.Equal(t, "UNKNOWN", sdk.StatusName(4711))
}

func TestRetryInfo(t *testing.T) {
	raw, err := proto.Marshal(status.Convert(sifttest.RateLimited(3 * time.Second)).Proto())
	require.NoError(t, err)
	for name, text := range map[string]string{
		"padded":   base64.StdEncoding.EncodeToString(raw),
		"unpadded": base64.RawStdEncoding.EncodeToString(raw),
	} {
		info := retryInfo(text)
		require.NotNil(t, info, name)
		assert.Equal(t, 3*time.Second, info.GetRetryDelay().AsDuration())
	}
	for _, junk := range []string{"", "!", "AAAA", base64.StdEncoding.EncodeToString([]byte("\x1a\x02\x0a\x00"))} {
		assert.Nil(t, retryInfo(junk))
	}
	// Only a rate limit is one.
	e := judge(h2.Response{Headers: fields(":status", "200", "grpc-status", "14", "grpc-status-details-bin", base64.StdEncoding.EncodeToString(raw))})
	assert.Zero(t, sdk.AsError(e).Delay)
}

func TestPercentDecode(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "plain": "plain", "100%25": "100%", "%E2%80%98x%E2%80%99": "‘x’", "%": "%", "%4": "%4", "%zz%41": "%zzA",
	} {
		assert.Equal(t, want, percentDecode(in))
	}
}

// FuzzJudge: whatever a destination answers, it is OK only where it says so with
// one message, and its words are short and valid.
func FuzzJudge(f *testing.F) {
	f.Add("200", "application/grpc", "0", "m%20m", "AAAA", []byte{0, 0, 0, 0, 0}, true)
	f.Add("502", "text/html", "", "", "", []byte("<html>"), false)
	f.Fuzz(func(t *testing.T, status, contentType, code, message, details string, body []byte, trailers bool) {
		r := h2.Response{Headers: fields(":status", status, "content-type", contentType), Body: body}
		answer := fields("grpc-status", code, "grpc-message", message, "grpc-status-details-bin", details)
		if trailers {
			r.Trailers = answer
		} else {
			r.Headers = append(r.Headers, answer...)
		}
		err := judge(r)
		if err == nil {
			assert.Len(t, strings.Trim(code, "0"), 0)
			assert.GreaterOrEqual(t, len(body), 5)
			assert.LessOrEqual(t, body[0], byte(1))
			return
		}
		e := sdk.AsError(err)
		assert.LessOrEqual(t, len(e.Message), 3*maxText+1000)
		assert.True(t, utf8.ValidString(e.Message))
		assert.GreaterOrEqual(t, e.Delay, time.Duration(0))
		assert.LessOrEqual(t, e.Delay, maxDelay)
	})
}

func FuzzPercentDecode(f *testing.F) {
	f.Add("a%20b%")
	f.Fuzz(func(t *testing.T, text string) {
		if want, err := url.PathUnescape(text); err == nil {
			assert.Equal(t, want, percentDecode(text))
		}
		assert.LessOrEqual(t, len(percentDecode(text)), len(text))
		assert.Equal(t, text, percentDecode(url.PathEscape(text)))
	})
}
