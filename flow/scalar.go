package flow

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration that reads and writes itself as text ("1h30m0s").
type Duration time.Duration

// String is Go's form of a duration.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON writes text.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads what MarshalJSON and users write.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("duration: %w", err)
	}
	parsed, err := ParseDuration(text)
	*d = Duration(parsed)
	return err
}

var durationPattern = regexp.MustCompile(`^(\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h|d|w))+$`)
var durationPart = regexp.MustCompile(`(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d|w)`)

var durationUnits = map[string]time.Duration{
	"ns": time.Nanosecond, "us": time.Microsecond, "µs": time.Microsecond, "ms": time.Millisecond,
	"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}

var errDuration = errors.New("expected a duration such as 90s, 1h30m or 2d")

// ParseDuration reads Go's durations and, beyond them, d (24 hours) and w (7
// days). A sign or a number without unit is an error.
func ParseDuration(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	if len(text) > 64 || !durationPattern.MatchString(text) {
		return 0, errDuration
	}
	var total float64
	var exact time.Duration
	for _, part := range durationPart.FindAllStringSubmatch(text, -1) {
		unit := durationUnits[part[2]]
		value, err := strconv.ParseFloat(part[1], 64)
		if err != nil {
			return 0, errDuration
		}
		total += value * float64(unit)
		if total > math.MaxInt64/2 {
			return 0, errors.New("the duration is too long")
		}
		if whole, err := strconv.ParseInt(part[1], 10, 64); err == nil {
			exact += time.Duration(whole) * unit
		} else {
			exact += time.Duration(value * float64(unit))
		}
	}
	return exact, nil
}

var sizePattern = regexp.MustCompile(`^(\d+(?:\.\d+)?) ?([kKMGTP]?i?)B$`)

var sizeUnits = map[string]float64{
	"":  1,
	"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
	"ki": 1 << 10, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50,
}

var errSize = errors.New("expected a size such as 128MB or 1GiB")

// ParseSize reads a number of bytes: kB, MB, GB, TB and PB are powers of 1000,
// KiB to PiB powers of 1024.
func ParseSize(text string) (int64, error) {
	m := sizePattern.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil || len(text) > 64 {
		return 0, errSize
	}
	unit, known := sizeUnits[m[2]]
	value, err := strconv.ParseFloat(m[1], 64)
	if !known || err != nil {
		return 0, errSize
	}
	bytes := value * unit
	if bytes >= math.MaxInt64/2 {
		return 0, errors.New("the size is too large")
	}
	return int64(math.Round(bytes)), nil
}
