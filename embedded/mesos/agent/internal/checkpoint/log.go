package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// A log is a sequence of records: length of the body (4 bytes, big endian), its
// CRC-32 (4), the body: kind (1) and payload. A torn last record is cut off.
const (
	kindTask     = 'T' // mesos.Task
	kindUpdate   = 'U' // mesos.TaskStatus
	kindAck      = 'A' // UUID (16 bytes), task ID
	kindComplete = 'C' // task ID: nothing about it is needed any more

	headerSize = 8
	// maxRecord bounds what a damaged length makes us read. An executor's call is
	// bounded far below it.
	maxRecord = 64 << 20
	// compactAt is the least number of bytes about completed tasks that makes a
	// rewrite worth while.
	compactAt = 1 << 20
)

// Log is what happened to the tasks of one executor.
type Log struct {
	path    string
	file    *os.File
	size    int64
	live    map[string]int64 // bytes of each task that is not complete
	garbage int64
}

func openLog(path string) (*Log, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &Log{path: path, file: file, size: info.Size(), live: map[string]int64{}}, nil
}

// Close leaves the file as it is.
func (l *Log) Close() error { return l.file.Close() }

// Task records that a task was taken on.
func (l *Log) Task(task mesos.Task) error {
	payload, err := task.Marshal()
	if err != nil {
		return err
	}
	return l.append(kindTask, payload, task.TaskID.Value)
}

// Update records a status update, which has a UUID.
func (l *Log) Update(status mesos.TaskStatus) error {
	payload, err := status.Marshal()
	if err != nil {
		return err
	}
	return l.append(kindUpdate, payload, status.TaskID.Value)
}

// Ack records that the framework has acknowledged an update.
func (l *Log) Ack(task mesos.TaskID, uuid []byte) error {
	if len(uuid) != 16 {
		return fmt.Errorf("checkpoint: UUID of %d bytes", len(uuid))
	}
	return l.append(kindAck, append(append([]byte{}, uuid...), task.Value...), task.Value)
}

// Complete records that a task is over and done with; its records vanish in time.
func (l *Log) Complete(task mesos.TaskID) error {
	if err := l.append(kindComplete, []byte(task.Value), task.Value); err != nil {
		return err
	}
	l.garbage += l.live[task.Value]
	delete(l.live, task.Value)
	if l.garbage < compactAt || l.garbage < l.size/2 {
		return nil
	}
	return l.compact()
}

func encode(kind byte, payload []byte) []byte {
	record := make([]byte, headerSize+1, headerSize+1+len(payload))
	record[headerSize] = kind
	record = append(record, payload...)
	body := record[headerSize:]
	binary.BigEndian.PutUint32(record, uint32(len(body)))
	binary.BigEndian.PutUint32(record[4:], crc32.ChecksumIEEE(body))
	return record
}

func (l *Log) append(kind byte, payload []byte, task string) error {
	record := encode(kind, payload)
	if _, err := l.file.Write(record); err != nil {
		// Half a record would hide all that follow it.
		return errors.Join(fmt.Errorf("checkpoint %s: %w", l.path, err), os.Truncate(l.path, l.size))
	}
	l.size += int64(len(record))
	l.live[task] += int64(len(record))
	return nil
}

// compact rewrites the log without the records of completed tasks.
func (l *Log) compact() error {
	state, err := readLog(l.path)
	if err != nil {
		return err
	}
	var data []byte
	live := map[string]int64{}
	for _, task := range state {
		before := len(data)
		data = task.appendTo(data)
		live[task.Task.TaskID.Value] = int64(len(data) - before)
	}
	if err := writeFile(l.path, data); err != nil {
		return err
	}
	file, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	l.file.Close()
	l.file, l.size, l.live, l.garbage = file, int64(len(data)), live, 0
	return nil
}

// TaskState is what a log tells of a task that is not complete.
type TaskState struct {
	Task    mesos.Task // as it was taken on
	Updates []mesos.TaskStatus
	Acked   map[string]bool // by UUID
}

func (t *TaskState) appendTo(data []byte) []byte {
	if payload, err := t.Task.Marshal(); err == nil {
		data = append(data, encode(kindTask, payload)...)
	}
	for _, status := range t.Updates {
		if payload, err := status.Marshal(); err == nil {
			data = append(data, encode(kindUpdate, payload)...)
		}
		if t.Acked[string(status.UUID)] {
			data = append(data, encode(kindAck, append(append([]byte{}, status.UUID...), t.Task.TaskID.Value...))...)
		}
	}
	return data
}

// readLog gives the tasks that are not complete, in the order they came.
func readLog(path string) ([]*TaskState, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tasks := map[string]*TaskState{}
	var order []string
	err = scan(f, func(kind byte, payload []byte) error {
		switch kind {
		case kindTask:
			state := &TaskState{Acked: map[string]bool{}}
			if err := state.Task.Unmarshal(payload); err != nil {
				return err
			}
			id := state.Task.TaskID.Value
			if tasks[id] == nil {
				order = append(order, id)
			}
			tasks[id] = state
		case kindUpdate:
			var status mesos.TaskStatus
			if err := status.Unmarshal(payload); err != nil {
				return err
			}
			if t := tasks[status.TaskID.Value]; t != nil {
				t.Updates = append(t.Updates, status)
			}
		case kindAck:
			if len(payload) < 16 {
				return errors.New("short acknowledgement")
			}
			if t := tasks[string(payload[16:])]; t != nil {
				t.Acked[string(payload[:16])] = true
			}
		case kindComplete:
			delete(tasks, string(payload))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	var live []*TaskState
	for _, id := range order {
		if t := tasks[id]; t != nil {
			live = append(live, t)
			delete(tasks, id) // an ID that came twice is listed once
		}
	}
	return live, nil
}

// scan calls handle for each whole record, up to the first that is torn.
func scan(r io.Reader, handle func(kind byte, payload []byte) error) error {
	header := make([]byte, headerSize)
	for {
		if _, err := io.ReadFull(r, header); err != nil {
			return ended(err)
		}
		size := binary.BigEndian.Uint32(header)
		if size == 0 || size > maxRecord {
			return nil
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(r, body); err != nil {
			return ended(err)
		}
		if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(header[4:]) {
			return nil
		}
		if err := handle(body[0], body[1:]); err != nil {
			return err
		}
	}
}

func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
