package main

import (
	"bytes"
	"crypto/rand"
	"flag"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baas-batch/baas/tests/harness"
	"github.com/baas-batch/baas/tests/servers"
)

// TestMain has the test binary measure a side where it was started for that.
func TestMain(m *testing.M) {
	if os.Getenv(envJob) != "" {
		main()
		return
	}
	harness.Main(m, nil)
}

var streamSize = flag.Int64("stream", 1<<30, "bytes of a stream in BenchmarkStorage")

// BenchmarkStorage sends a stream of unknown length into a store and out of it again,
// by `baas storage` and by the store's own client in turn, each a process of its own
// that reads and writes a pipe:
//
//	put-ratio, get-ratio: throughput of baas to that of the client, medians
//	put-MB/s, get-MB/s:   of baas
//
// The clients are `aws s3 cp` and `swift`, the latter with segments as large as the
// largest that baas makes of such a stream; where there is none, the ratio is left out.
// What the process takes of the memory, tests/stream measures.
func BenchmarkStorage(b *testing.B) {
	b.Run("s3", func(b *testing.B) {
		server := servers.StartS3(b, nil)
		server.Credentials(b)
		url := server.Bucket(b, "bench")
		b.Setenv("AWS_DEFAULT_REGION", "us-east-1")
		aws := []string{"aws", "--endpoint-url", server.Endpoint, "s3", "cp", "--no-progress"}
		benchStreams(b, url,
			append(aws, "-", "s3://bench/theirs"),
			append(aws, "s3://bench/theirs", "-"))
	})
	b.Run("swift", func(b *testing.B) {
		server := servers.StartSwift(b)
		server.Credentials(b)
		url := server.Container(b, "bench")
		swift := []string{"swift", "-A", os.Getenv("ST_AUTH"), "-U", os.Getenv("ST_USER"), "-K", os.Getenv("ST_KEY"), "-q"}
		benchStreams(b, url,
			append(swift, "upload", "--use-slo", "--segment-size", "16M", "--object-name", "theirs", "bench", "-"),
			append(swift, "download", "-o", "-", "bench", "theirs"))
	})
}

func benchStreams(b *testing.B, url string, theirPut, theirGet []string) {
	baas := harness.Binary(b, "baas")
	ourPut := []string{baas, "storage", "put", "--storage", url, "-", "ours"}
	ourGet := []string{baas, "storage", "get", "--storage", url, "ours", "-"}
	_, err := exec.LookPath(theirPut[0])
	compare := err == nil
	if !compare {
		b.Logf("there is no %s here to compare with", theirPut[0])
	}
	block := make([]byte, 8<<20)
	rand.Read(block)
	var puts, gets, theirPuts, theirGets []time.Duration
	for b.Loop() {
		puts = append(puts, stream(b, ourPut, block))
		gets = append(gets, stream(b, ourGet, nil))
		if compare {
			theirPuts = append(theirPuts, stream(b, theirPut, block))
			theirGets = append(theirGets, stream(b, theirGet, nil))
		}
	}
	report := func(name string, ours, theirs []time.Duration) {
		b.ReportMetric(float64(*streamSize)/1e6/median(ours).Seconds(), name+"-MB/s")
		if compare {
			b.ReportMetric(median(theirs).Seconds()/median(ours).Seconds(), name+"-ratio")
		}
	}
	report("put", puts, theirPuts)
	report("get", gets, theirGets)
	b.ReportMetric(0, "ns/op")
}

// stream runs a program that is to read the stream, or with a nil block to write it.
func stream(b *testing.B, args []string, block []byte) time.Duration {
	b.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	var said bytes.Buffer
	got := &counter{}
	cmd.Stderr, cmd.Stdout = &said, got
	if block != nil {
		cmd.Stdin = io.LimitReader(&endless{block: block}, *streamSize)
	}
	began := time.Now()
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s: %v\n%s", strings.Join(args[:2], " "), err, said.String())
	}
	took := time.Since(began)
	if block == nil && got.n != *streamSize {
		b.Fatalf("%s gave %d bytes of %d", args[0], got.n, *streamSize)
	}
	return took
}

func median(list []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
