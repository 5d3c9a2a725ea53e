package generator

import (
	"math"
	"math/big"
	"math/bits"
)

// wave is the form of a signal.
type wave uint8

const (
	sine wave = iota
	ramp
	step
	noise
	counter
	constant
	square
)

// waves returns the names of the waves in the order of their numbers.
func waves() []string {
	return []string{"sine", "ramp", "step", "noise", "counter", "constant", "square"}
}

// place is where in its wave a row is: whole periods and a part of one, in units
// of 2^-64. It is exact, so walking to a row and jumping to it end alike.
type place struct{ period, part uint64 }

// strideOf returns how far a row is from the one before: the 128-bit quotient of
// the times of a row and of a period. It is rounded up, so that a row at the end
// of a period is not taken for one before it.
func strideOf(rate uint64, period int64) place {
	row := new(big.Int).Lsh(big.NewInt(unitNs), 64)
	whole := new(big.Int).Mul(new(big.Int).SetUint64(rate), big.NewInt(period))
	row.Add(row, whole).Sub(row, big.NewInt(1)).Quo(row, whole)
	lo := new(big.Int).And(row, new(big.Int).SetUint64(math.MaxUint64)).Uint64()
	return place{row.Rsh(row, 64).Uint64(), lo}
}

// add returns the sum; whole periods wrap, which no wave notices.
func (p place) add(q place) place {
	part, carry := bits.Add64(p.part, q.part, 0)
	return place{p.period + q.period + carry, part}
}

// times returns p * n.
func (p place) times(n uint64) place {
	hi, lo := bits.Mul64(p.part, n)
	return place{p.period*n + hi, lo}
}

// partOf turns a part of a period from 0 to 1 into units of 2^-64; 1 is 0.
func partOf(phase float64) uint64 {
	if phase >= 1 {
		return 0
	}
	return uint64(phase * (1 << 63) * 2)
}

// level returns the value of a wave between -1 and 1. Products are rounded by
// themselves, so that no processor joins them with sums and gives other values.
func (c *channel) level(row uint64, at place) float64 {
	switch c.wave {
	case sine:
		return c.sines.sine(at.part)
	case ramp:
		return signed(at.part)
	case step:
		return signed(mix(c.key + at.period*odd))
	case noise:
		return signed(mix(c.key + row*odd))
	case square:
		if at.part < 1<<63 {
			return 1
		}
		return -1
	default:
		return 0
	}
}

// sines holds the sine and the cosine of 1,024 parts of a circle.
type sines [1 << sineBits]struct{ sin, cos float64 }

const sineBits = 10

func newSines() *sines {
	s := new(sines)
	for i := range s {
		s[i].sin, s[i].cos = math.Sincos(2 * math.Pi * float64(i) / float64(len(s)))
	}
	return s
}

// sine returns the sine of a part of a circle, by a series around the nearest
// entry that is right to 1e-11.
func (s *sines) sine(part uint64) float64 {
	const half = 1 << (63 - sineBits)
	i := (part + half) >> (64 - sineBits)
	e := &s[i%(1<<sineBits)]
	h := float64(int64(part-i<<(64-sineBits))) * (2 * math.Pi / (1 << 64))
	return e.sin + float64(h*(e.cos-float64(h*(e.sin/2+float64(h*e.cos/6)))))
}

// odd is 2^64 over the golden ratio: steps of it spread well.
const odd = 0x9e3779b97f4a7c15

// mix scatters the bits of x over all of its result (Steele, Lea, Flood:
// SplitMix).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// key tells the channels of all seeds apart.
func key(seed int64, channel int) uint64 { return mix(mix(uint64(seed)+odd) + uint64(channel)*odd) }

// unit turns 64 bits into a number from 0 to below 1.
func unit(x uint64) float64 { return float64(x>>11) / (1 << 53) }

// signed turns 64 bits into a number from -1 to below 1.
func signed(x uint64) float64 { return float64(int64(x>>10)-1<<53) / (1 << 53) }
