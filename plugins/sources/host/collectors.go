package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/sensors"

	"github.com/pipelined/pipelined/sdk"
)

func groupNames() []string {
	return []string{"cpu", "memory", "disk", "network", "temperature", "fan"}
}

func collectors() []collector {
	return []collector{
		newCPU(),
		sampled("memory", readMemory),
		sampled("disk", readDisk),
		sampled("network", readNetwork),
		sampled("temperature", readTemperatures),
		sampled("fan", func(context.Context) ([]reading, error) { return readFans("/sys/class/hwmon") }),
	}
}

// reading is one value with the channel that it belongs to.
type reading struct {
	name, unit, description string
	value                   float64
}

// sampled makes a collector whose channels are what the first reading has.
func sampled(group string, read func(context.Context) ([]reading, error)) collector {
	return collector{
		group: group,
		channels: func(ctx context.Context) ([]sdk.Channel, error) {
			readings, err := read(ctx)
			return channelsOf(readings), err
		},
		sample: func(ctx context.Context, set func(string, float64)) error {
			readings, err := read(ctx)
			for _, r := range readings {
				set(r.name, r.value)
			}
			return err
		},
	}
}

// channelsOf returns a double channel for each reading; of equal names the first
// counts.
func channelsOf(readings []reading) []sdk.Channel {
	var channels []sdk.Channel
	seen := map[string]bool{}
	for _, r := range readings {
		if seen[r.name] {
			continue
		}
		seen[r.name] = true
		channels = append(channels, sdk.Channel{Name: r.name, Type: sdk.Double, Unit: r.unit, Description: r.description})
	}
	return channels
}

// newCPU returns the collector of the processors. Loads are the share of the time
// since the reading before, so the first row has none.
func newCPU() collector {
	var before []cpu.TimesStat
	read := func(ctx context.Context) ([]reading, error) {
		now, err := cpu.TimesWithContext(ctx, true)
		if err != nil {
			return nil, err
		}
		readings := busyShares(before, now)
		before = now
		if avg, err := load.AvgWithContext(ctx); err == nil {
			readings = append(
				readings,
				reading{"load_1m", "", "runnable tasks, mean of 1 minute", avg.Load1},
				reading{"load_5m", "", "runnable tasks, mean of 5 minutes", avg.Load5},
				reading{"load_15m", "", "runnable tasks, mean of 15 minutes", avg.Load15},
			)
		}
		return readings, nil
	}
	c := sampled("cpu", read)
	sampleChannels := c.channels
	c.channels = func(ctx context.Context) ([]sdk.Channel, error) {
		times, err := cpu.TimesWithContext(ctx, true)
		if err != nil {
			return nil, err
		}
		before = times
		return sampleChannels(ctx)
	}
	return c
}

// busyShares returns the load of each processor and of all of them in percent.
func busyShares(before, now []cpu.TimesStat) []reading {
	if len(before) != len(now) {
		return nil
	}
	var readings []reading
	var busySum, allSum float64
	for i := range now {
		busy, all := busyTime(now[i])-busyTime(before[i]), allTime(now[i])-allTime(before[i])
		busySum, allSum = busySum+busy, allSum+all
		readings = append(readings, reading{fmt.Sprintf("cpu%d", i), "%", "busy time of processor " + strconv.Itoa(i), percent(busy, all)})
	}
	return append([]reading{{"total", "%", "busy time of all processors", percent(busySum, allSum)}}, readings...)
}

func percent(part, whole float64) float64 {
	if whole <= 0 {
		return 0
	}
	return min(100, max(0, 100*part/whole))
}

func allTime(t cpu.TimesStat) float64 {
	return t.User + t.System + t.Idle + t.Nice + t.Iowait + t.Irq + t.Softirq + t.Steal
}

func busyTime(t cpu.TimesStat) float64 { return allTime(t) - t.Idle - t.Iowait }

func readMemory(ctx context.Context) ([]reading, error) {
	m, err := mem.VirtualMemoryWithContext(ctx)
	if err != nil {
		return nil, err
	}
	readings := []reading{
		{"total", "B", "installed memory", float64(m.Total)},
		{"available", "B", "memory that programs can get", float64(m.Available)},
		{"used", "B", "memory that programs have", float64(m.Used)},
		{"used_percent", "%", "share of the memory that programs have", m.UsedPercent},
		{"cached", "B", "memory that caches files", float64(m.Cached)},
	}
	swap, err := mem.SwapMemoryWithContext(ctx)
	if err != nil {
		return readings, err
	}
	return append(readings, reading{"swap_used", "B", "memory moved to disk", float64(swap.Used)}), nil
}

func readDisk(ctx context.Context) ([]reading, error) {
	counters, err := disk.IOCountersWithContext(ctx)
	if err != nil {
		return nil, err
	}
	var readings []reading
	for _, name := range sortedKeys(counters) {
		if strings.HasPrefix(name, "loop") || strings.HasPrefix(name, "ram") {
			continue // no hardware
		}
		c := counters[name]
		readings = append(
			readings,
			reading{name + ".read_bytes", "B", "read since boot", float64(c.ReadBytes)},
			reading{name + ".write_bytes", "B", "written since boot", float64(c.WriteBytes)},
			reading{name + ".io_time", "ms", "time with work to do since boot", float64(c.IoTime)},
		)
	}
	if usage, err := disk.UsageWithContext(ctx, "/"); err == nil {
		readings = append(readings, reading{"root.used_percent", "%", "share of the root file system in use", usage.UsedPercent})
	}
	return readings, nil
}

func readNetwork(ctx context.Context) ([]reading, error) {
	counters, err := net.IOCountersWithContext(ctx, true)
	if err != nil {
		return nil, err
	}
	var readings []reading
	for _, c := range counters {
		readings = append(
			readings,
			reading{c.Name + ".bytes_sent", "B", "sent since boot", float64(c.BytesSent)},
			reading{c.Name + ".bytes_received", "B", "received since boot", float64(c.BytesRecv)},
			reading{c.Name + ".packets_sent", "", "sent since boot", float64(c.PacketsSent)},
			reading{c.Name + ".packets_received", "", "received since boot", float64(c.PacketsRecv)},
			reading{c.Name + ".errors", "", "errors since boot, both ways", float64(c.Errin + c.Errout)},
			reading{c.Name + ".drops", "", "dropped packets since boot, both ways", float64(c.Dropin + c.Dropout)},
		)
	}
	return readings, nil
}

func readTemperatures(ctx context.Context) ([]reading, error) {
	stats, err := sensors.TemperaturesWithContext(ctx)
	var warnings *sensors.Warnings
	if err != nil && !errors.As(err, &warnings) && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var readings []reading
	for _, t := range stats {
		readings = append(readings, reading{t.SensorKey, "degC", "temperature", t.Temperature})
	}
	return readings, nil
}

// readFans reads the speed of every fan that the kernel knows, in revolutions a
// minute: hwmon*/fan*_input, named by hwmon*/name.
func readFans(root string) ([]reading, error) {
	files, err := filepath.Glob(filepath.Join(root, "hwmon*", "fan*_input"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var readings []reading
	for _, file := range files {
		value, err := readNumber(file)
		if err != nil {
			continue // a fan that is gone has no value
		}
		fan := strings.TrimSuffix(filepath.Base(file), "_input")
		readings = append(readings, reading{chipName(filepath.Dir(file)) + "." + fan, "1/min", "fan speed", value})
	}
	return readings, nil
}

func chipName(dir string) string {
	name, err := os.ReadFile(filepath.Join(dir, "name"))
	if err != nil {
		return filepath.Base(dir)
	}
	return strings.TrimSpace(string(name)) + "_" + filepath.Base(dir)
}

func readNumber(file string) (float64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
