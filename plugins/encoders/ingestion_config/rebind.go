package ingestionconfig

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/pipelined/pipelined/sdk"
)

// Rebind replaces the ids of every message in body, in place. All ids have
// sdk.BindingIDBytes; messages without a run stay without one. If any message
// does not carry the ids of from, body is left as it was.
func (e *encoder) Rebind(body []byte, from, to sdk.Binding) error {
	if err := checkIDs(from, to); err != nil {
		return fmt.Errorf("rebind: %w", err)
	}
	rest := body
	for number := 1; len(rest) > 0; number++ {
		message, behind, err := cutMessage(rest)
		if err == nil {
			err = checkBinding(reader{message}, from)
		}
		if err != nil {
			return fmt.Errorf("rebind: message %d: %w", number, err)
		}
		rest = behind
	}
	for rest = body; len(rest) > 0; {
		message, behind, err := cutMessage(rest)
		if err != nil {
			return fmt.Errorf("rebind: %w", err) // the first pass has found it
		}
		copy(message[2:], to.ConfigID)
		copy(message[len(message)-len(to.RunID):], to.RunID)
		rest = behind
	}
	return nil
}

func checkIDs(from, to sdk.Binding) error {
	for _, id := range []string{from.ConfigID, to.ConfigID} {
		if len(id) != sdk.BindingIDBytes {
			return fmt.Errorf("config id %q has %d bytes, want %d", clip([]byte(id)), len(id), sdk.BindingIDBytes)
		}
	}
	for _, id := range []string{from.RunID, to.RunID} {
		if id != "" && len(id) != sdk.BindingIDBytes {
			return fmt.Errorf("run id %q has %d bytes, want %d or none", clip([]byte(id)), len(id), sdk.BindingIDBytes)
		}
	}
	switch {
	case from.RunID == "" && to.RunID != "":
		return fmt.Errorf("messages without a run cannot get run %q: they would become longer", to.RunID)
	case from.RunID != "" && to.RunID == "":
		return fmt.Errorf("run %q cannot be taken from the messages: they would become shorter", from.RunID)
	case !utf8.ValidString(to.ConfigID) || !utf8.ValidString(to.RunID):
		return errors.New("the new ids are not UTF-8")
	}
	return nil
}

// checkBinding makes sure that the config id is the message's first field, the
// run id its last, and that both are the expected ones. What lies between is
// stepped over field by field, so no value can be taken for an id.
func checkBinding(r reader, want sdk.Binding) error {
	if !r.next(tagConfigID) {
		return errors.New("it does not begin with its config id")
	}
	id, err := r.bytes()
	if err != nil {
		return fmt.Errorf("config id: %w", err)
	}
	if string(id) != want.ConfigID {
		return fmt.Errorf("its config id is %q, not %q", clip(id), want.ConfigID)
	}
	for _, tag := range []byte{tagFlow, tagTimestamp} {
		if !r.next(tag) {
			return unexpected(r.rest)
		}
		if _, err := r.bytes(); err != nil {
			return err
		}
	}
	for r.next(tagValue) {
		if _, err := r.bytes(); err != nil {
			return err
		}
	}
	return checkRun(r, want.RunID)
}

func checkRun(r reader, want string) error {
	var id []byte
	present := r.next(tagRunID)
	if present {
		var err error
		if id, err = r.bytes(); err != nil {
			return fmt.Errorf("run id: %w", err)
		}
	}
	switch {
	case present && len(id) == 0:
		return errors.New("run_id is there and empty")
	case len(r.rest) > 0:
		return unexpected(r.rest)
	case string(id) != want:
		return fmt.Errorf("its run id is %q, not %q", clip(id), want)
	}
	return nil
}
