package config

import (
	"errors"
	"fmt"
	"math/big"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// maxValueBytes bounds what a function takes and gives, and what a local holds.
const maxValueBytes = maxFileBytes

// functions returns what pipeline files may call. Secrets are read as the mode
// says.
func (l *loader) functions(mode secretMode) map[string]function.Function {
	all := map[string]function.Function{
		"env":  envFunction(l.options.LookupEnv),
		"file": textFunction("path", readText),

		"secret::env":        l.secretFunction(mode, "name", l.secretFromEnv),
		"secret::file":       l.secretFunction(mode, "path", secretFromFile),
		"secret::credential": l.secretFunction(mode, "name", l.secretFromCredential),

		"timestamp":    constant(cty.StringVal(l.options.Now.UTC().Format(time.RFC3339Nano))),
		"timeadd":      function.New(timeAdd()),
		"timediff":     function.New(timeDiff()),
		"formatdate":   stdlib.FormatDateFunc,
		"unixtime":     function.New(unixTime()),
		"fromunixtime": function.New(fromUnixTime()),
		"seconds":      function.New(seconds()),
		"bytes":        function.New(sizeInBytes()),

		"startswith": testFunction("prefix", strings.HasPrefix),
		"endswith":   testFunction("suffix", strings.HasSuffix),
		"replace":    function.New(replace()),
		"basename":   textFunction("path", func(p string) (string, error) { return path.Base(p), nil }),
		"dirname":    textFunction("path", func(p string) (string, error) { return path.Dir(p), nil }),
		"abspath":    textFunction("path", filepath.Abs),

		"chomp": stdlib.ChompFunc, "format": checkedFormat(stdlib.FormatFunc), "formatlist": checkedFormat(stdlib.FormatListFunc),
		"join": stdlib.JoinFunc, "lower": stdlib.LowerFunc, "regex": stdlib.RegexFunc, "regexall": stdlib.RegexAllFunc,
		"split": stdlib.SplitFunc, "strlen": stdlib.StrlenFunc, "substr": stdlib.SubstrFunc, "title": stdlib.TitleFunc,
		"trim": stdlib.TrimFunc, "trimprefix": stdlib.TrimPrefixFunc, "trimspace": stdlib.TrimSpaceFunc,
		"trimsuffix": stdlib.TrimSuffixFunc, "upper": stdlib.UpperFunc,

		"abs": stdlib.AbsoluteFunc, "ceil": stdlib.CeilFunc, "floor": stdlib.FloorFunc, "int": stdlib.IntFunc,
		"log": stdlib.LogFunc, "max": stdlib.MaxFunc, "min": stdlib.MinFunc, "pow": stdlib.PowFunc, "signum": stdlib.SignumFunc,

		"chunklist": stdlib.ChunklistFunc, "coalesce": stdlib.CoalesceFunc, "compact": stdlib.CompactFunc,
		"concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc, "distinct": stdlib.DistinctFunc,
		"element": stdlib.ElementFunc, "flatten": stdlib.FlattenFunc, "index": stdlib.IndexFunc, "keys": stdlib.KeysFunc,
		"length": stdlib.LengthFunc, "lookup": stdlib.LookupFunc, "merge": stdlib.MergeFunc, "range": stdlib.RangeFunc,
		"reverse": stdlib.ReverseListFunc, "slice": stdlib.SliceFunc, "sort": stdlib.SortFunc, "values": stdlib.ValuesFunc,
		"zipmap": stdlib.ZipmapFunc,

		"csvdecode": stdlib.CSVDecodeFunc, "jsondecode": stdlib.JSONDecodeFunc, "jsonencode": stdlib.JSONEncodeFunc,

		"tobool": stdlib.MakeToFunc(cty.Bool), "tonumber": stdlib.MakeToFunc(cty.Number), "tostring": stdlib.MakeToFunc(cty.String),
		"tolist": stdlib.MakeToFunc(cty.List(cty.DynamicPseudoType)), "tomap": stdlib.MakeToFunc(cty.Map(cty.DynamicPseudoType)),
		"toset": stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)),
	}
	for name, f := range all {
		all[name] = bounded(f)
	}
	return all
}

var errValueTooLarge = fmt.Errorf("values may have %s; this one is larger", formatSize(maxValueBytes))

// bounded returns f with a limit on the size of its arguments and its result, so
// that calls inside calls cannot grow without end.
func bounded(f function.Function) function.Function {
	check := func(values ...cty.Value) error {
		total := 0
		for _, v := range values {
			total += valueSize(v)
		}
		if total > maxValueBytes {
			return errValueTooLarge
		}
		return nil
	}
	return function.New(&function.Spec{
		Params:   f.Params(),
		VarParam: f.VarParam(),
		Type: func(args []cty.Value) (cty.Type, error) {
			if err := check(args...); err != nil {
				return cty.DynamicPseudoType, err
			}
			return f.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			result, err := f.Call(args)
			if err == nil {
				err = check(result)
			}
			return result, err
		},
	})
}

// valueSize is about the memory that a value takes, in bytes.
func valueSize(v cty.Value) int {
	const each = 16
	v, _ = v.Unmark()
	switch {
	case v.IsNull() || !v.IsKnown():
		return each
	case v.Type() == cty.String:
		return each + len(v.AsString())
	case v.Type() == cty.Number:
		return each + int(v.AsBigFloat().MinPrec()/8)
	case v.CanIterateElements():
		total := each
		for it := v.ElementIterator(); it.Next(); {
			key, element := it.Element()
			total += valueSize(element)
			if key.Type() == cty.String && !v.Type().IsSetType() {
				total += valueSize(key)
			}
		}
		return total
	}
	return each
}

// constant is a function without parameters.
func constant(v cty.Value) function.Function {
	return function.New(&function.Spec{
		Type: function.StaticReturnType(v.Type()),
		Impl: func([]cty.Value, cty.Type) (cty.Value, error) { return v, nil },
	})
}

// textFunction makes a function from text to text.
func textFunction(parameter string, f func(string) (string, error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: parameter, Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			text, err := f(args[0].AsString())
			return cty.StringVal(text), err
		},
	})
}

// testFunction makes a function that compares two texts.
func testFunction(second string, f func(a, b string) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}, {Name: second, Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(f(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

// envFunction reads an environment variable; a second argument is used if there
// is none.
func envFunction(lookup func(string) (string, bool)) function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{{Name: "name", Type: cty.String}},
		VarParam: &function.Parameter{Name: "default", Type: cty.String},
		Type:     function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if len(args) > 2 {
				return cty.NilVal, errors.New("it takes the name of a variable and a default")
			}
			if value, ok := lookup(args[0].AsString()); ok {
				return cty.StringVal(value), nil
			}
			if len(args) == 2 {
				return args[1], nil
			}
			return cty.NilVal, fmt.Errorf("the environment variable %s is not set; set it, or give a default as second argument",
				quote(args[0].AsString()))
		},
	})
}

func readText(name string) (string, error) {
	text, err := readFile(name, maxFileBytes)
	if err != nil {
		return "", errors.New(strings.TrimSuffix(sentence(err), "."))
	}
	if firstNonText(text) >= 0 {
		return "", fmt.Errorf("%s is not a text file in UTF-8", quote(name))
	}
	return string(text), nil
}

// checkedFormat refuses widths that make a value of any size.
func checkedFormat(f function.Function) function.Function {
	const maxDigits = 3
	return function.New(&function.Spec{
		Params:   f.Params(),
		VarParam: f.VarParam(),
		Type:     f.ReturnTypeForValues,
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			spec, _ := args[0].Unmark()
			digits := 0
			if spec.IsKnown() && spec.Type() == cty.String {
				for _, c := range spec.AsString() {
					if digits++; c < '0' || c > '9' {
						digits = 0
					}
					if digits > maxDigits {
						return cty.NilVal, function.NewArgErrorf(0, "widths and precisions have at most %d digits", maxDigits)
					}
				}
			}
			return f.Call(args)
		},
	})
}

func replace() *function.Spec {
	return &function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}, {Name: "old", Type: cty.String}, {Name: "new", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			text, old, with := args[0].AsString(), args[1].AsString(), args[2].AsString()
			if old == "" {
				return cty.NilVal, function.NewArgErrorf(1, "the text to be replaced is empty")
			}
			if len(text)+strings.Count(text, old)*len(with) > maxValueBytes {
				return cty.NilVal, errValueTooLarge
			}
			return cty.StringVal(strings.ReplaceAll(text, old, with)), nil
		},
	}
}

// parseTimeArgument reads a time for a function.
func parseTimeArgument(i int, v cty.Value) (time.Time, error) {
	ns, err := parseTime(v.AsString())
	if err != nil {
		return time.Time{}, function.NewArgError(i, err)
	}
	return time.Unix(0, ns).UTC(), nil
}

func timeAdd() *function.Spec {
	return &function.Spec{
		Params: []function.Parameter{{Name: "time", Type: cty.String}, {Name: "duration", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			at, err := parseTimeArgument(0, args[0])
			if err != nil {
				return cty.NilVal, err
			}
			d, err := parseDuration(args[1].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(1, err)
			}
			return cty.StringVal(at.Add(d).Format(time.RFC3339Nano)), nil
		},
	}
}

func timeDiff() *function.Spec {
	return &function.Spec{
		Params: []function.Parameter{{Name: "to", Type: cty.String}, {Name: "from", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			to, err := parseTimeArgument(0, args[0])
			if err != nil {
				return cty.NilVal, err
			}
			from, err := parseTimeArgument(1, args[1])
			if err != nil {
				return cty.NilVal, err
			}
			return cty.StringVal(formatDuration(to.Sub(from))), nil
		},
	}
}

func unixTime() *function.Spec {
	return &function.Spec{
		Params: []function.Parameter{{Name: "time", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Number),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			at, err := parseTimeArgument(0, args[0])
			if err != nil {
				return cty.NilVal, err
			}
			return inUnits(at.UnixNano(), time.Second), nil
		},
	}
}

func fromUnixTime() *function.Spec {
	return &function.Spec{
		Params: []function.Parameter{{Name: "seconds", Type: cty.Number}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			ns, _ := new(big.Float).Mul(args[0].AsBigFloat(), big.NewFloat(1e9)).Int(nil)
			if ns == nil || !ns.IsInt64() {
				return cty.NilVal, function.NewArgError(0, errTimeRange)
			}
			return cty.StringVal(time.Unix(0, ns.Int64()).UTC().Format(time.RFC3339Nano)), nil
		},
	}
}

func seconds() *function.Spec {
	return &function.Spec{
		Params: []function.Parameter{{Name: "duration", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Number),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			d, err := parseDuration(args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return inUnits(int64(d), time.Second), nil
		},
	}
}

func sizeInBytes() *function.Spec {
	return &function.Spec{
		Params: []function.Parameter{{Name: "size", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Number),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			n, err := parseSize(args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return cty.NumberIntVal(n), nil
		},
	}
}

// inUnits divides without the rounding of binary fractions.
func inUnits(ns int64, by time.Duration) cty.Value {
	return cty.NumberVal(new(big.Float).SetPrec(512).Quo(
		new(big.Float).SetPrec(512).SetInt64(ns), new(big.Float).SetPrec(512).SetInt64(int64(by))))
}
