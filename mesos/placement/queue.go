package placement

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Queue holds the tasks that wait, those that are alike together, so that a round
// costs what it places and what kinds of tasks there are, however many wait. It is
// served by one Placer, and used by one goroutine at a time.
type Queue struct {
	slots     []slot
	free      []int // slots without a task
	seq       uint64
	round     uint64
	levels    []*level // highest priority first
	lines     map[rank]*line
	owners    map[string]*owner
	classes   map[classKey]*class
	executors map[string]*executor
	bits      [64]int // executors that share each bit of a mask
	key       []byte  // scratch
}

type slot struct {
	class *class
	entry entry
}

// rank is what decides about a task's turn, besides its age.
type rank struct {
	priority int
	owner    string
}

// level is the tasks of one priority.
type level struct {
	priority int
	lines    []*line
}

// line is one owner's tasks of one priority.
type line struct {
	owner   *owner
	level   *level
	at      int // in the level
	classes []*class
	ready   classHeap // of this round: those that may still get something
}

// owner is what tells one owner's turn from another's.
type owner struct {
	name  string
	lines int
	round uint64 // which held and share are of
	held  Vector
	share float64
}

// entry is a task in its class.
type entry struct {
	age  int64
	seq  uint64
	slot int
}

func (a entry) compare(b entry) int {
	return cmp.Or(cmp.Compare(a.age, b.age), cmp.Compare(a.seq, b.seq))
}

// class is the tasks of a line that fit or do not fit together.
type class struct {
	key   classKey
	line  *line
	at    int     // in the line
	tasks []entry // oldest first
	ways  []route // as Task.Rather, the task's own way first
	role  string
	lasts int64
	shuns []string // agents; see Task.Avoid
	turn  Turn
	// Of this round:
	next  int // of tasks
	begun bool
	scope *scope
	tree  *tree
	avoid []int // lots
}

type classKey struct {
	line  *line
	text  string
	rules *Rules
	kind  any
}

// route is one way of a class.
type route struct {
	need, whole Vector    // without and with what its executor needs
	executor    *executor // nil if each task has one of its own
	// Of this round:
	failed int // scope.placed when it did not fit; -1 if it has not failed
	from   int // of the executor's lots: those before have no room
}

// executor is what the queue knows of one that several tasks share.
type executor struct {
	id    string
	bit   int // in the masks of lots
	users int
	lots  []int // of this round, on which it lives
}

// NewQueue gives an empty queue.
func NewQueue() *Queue {
	return &Queue{
		lines: make(map[rank]*line), owners: make(map[string]*owner),
		classes: make(map[classKey]*class), executors: make(map[string]*executor),
	}
}

// Add lets a task wait; it gives the number by which assignments name the task,
// which is another task's as soon as this one is removed. Of tasks that are equally
// old the one that was added first comes first. The description is not kept.
func (q *Queue) Add(t *Task) int {
	c := q.class(t)
	q.seq++
	i := len(q.slots)
	if n := len(q.free); n > 0 {
		i, q.free = q.free[n-1], q.free[:n-1]
	} else {
		q.slots = append(q.slots, slot{})
	}
	e := entry{t.Age, q.seq, i}
	q.slots[i] = slot{c, e}
	if n := len(c.tasks); n == 0 || c.tasks[n-1].compare(e) < 0 {
		c.tasks = append(c.tasks, e)
		return i
	}
	at, _ := slices.BinarySearchFunc(c.tasks, e, entry.compare)
	c.tasks = slices.Insert(c.tasks, at, e)
	return i
}

// Remove takes a task out.
func (q *Queue) Remove(task int) {
	s := q.slots[task]
	c := s.class
	at, _ := slices.BinarySearchFunc(c.tasks, s.entry, entry.compare)
	if at == 0 {
		c.tasks = c.tasks[1:]
	} else {
		c.tasks = slices.Delete(c.tasks, at, at+1)
	}
	q.slots[task] = slot{}
	q.free = append(q.free, task)
	if len(c.tasks) == 0 {
		q.drop(c)
	}
}

// Older counts the tasks of the same owner and priority that come before one.
func (q *Queue) Older(task int) int {
	s, sum := q.slots[task], 0
	for _, c := range s.class.line.classes {
		n, _ := slices.BinarySearchFunc(c.tasks, s.entry, entry.compare)
		sum += n
	}
	return sum
}

// class gives the class that a task belongs to.
func (q *Queue) class(t *Task) *class {
	l := q.line(t.Priority, t.Owner)
	q.key = t.appendKey(q.key[:0])
	if c := q.classes[classKey{l, string(q.key), t.Rules, t.Kind}]; c != nil {
		return c
	}
	c := &class{key: classKey{l, string(q.key), t.Rules, t.Kind}, line: l, at: len(l.classes), role: t.Role, lasts: t.Lasts}
	c.shuns, c.turn = t.Avoid, Turn{Rules: t.Rules, Strict: t.Strict, LastResort: t.LastResort}
	q.classes[c.key] = c
	l.classes = append(l.classes, c)
	for way := range 1 + len(t.Rather) {
		w := t.way(way)
		r := route{need: w.Need, whole: w.Need.Add(w.Overhead)}
		if !t.Single {
			r.executor = q.executor(w.Executor)
		}
		c.ways = append(c.ways, r)
	}
	return c
}

// appendKey describes what tasks of one class have in common, besides their line,
// rules and kind.
func (t *Task) appendKey(b []byte) []byte {
	text := func(s string) {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	text(t.Role)
	b = binary.AppendVarint(b, t.Lasts)
	for _, flag := range [...]bool{t.Single, t.Strict, t.LastResort} {
		if flag {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(t.Avoid)))
	for _, id := range t.Avoid {
		text(id)
	}
	for way := range 1 + len(t.Rather) {
		w := t.way(way)
		for i := range w.Need {
			b = binary.AppendVarint(binary.AppendVarint(b, w.Need[i]), w.Overhead[i])
		}
		if !t.Single {
			text(w.Executor)
		}
	}
	return b
}

func (q *Queue) line(priority int, name string) *line {
	key := rank{priority, name}
	if l := q.lines[key]; l != nil {
		return l
	}
	at, found := slices.BinarySearchFunc(q.levels, priority, func(l *level, p int) int { return cmp.Compare(p, l.priority) })
	if !found {
		q.levels = slices.Insert(q.levels, at, &level{priority: priority})
	}
	o := q.owners[name]
	if o == nil {
		o = &owner{name: name}
		q.owners[name] = o
	}
	o.lines++
	l := &line{owner: o, level: q.levels[at], at: len(q.levels[at].lines)}
	l.level.lines = append(l.level.lines, l)
	q.lines[key] = l
	return l
}

func (q *Queue) executor(id string) *executor {
	x := q.executors[id]
	if x == nil {
		x = &executor{id: id}
		for bit, n := range q.bits {
			if n < q.bits[x.bit] {
				x.bit = bit
			}
		}
		q.bits[x.bit]++
		q.executors[id] = x
	}
	x.users++
	return x
}

// drop takes out a class that has no tasks, and what only it had use for.
func (q *Queue) drop(c *class) {
	delete(q.classes, c.key)
	for _, w := range c.ways {
		if x := w.executor; x != nil {
			if x.users--; x.users == 0 {
				q.bits[x.bit]--
				delete(q.executors, x.id)
			}
		}
	}
	l := c.line
	last := len(l.classes) - 1
	l.classes[c.at], l.classes[last].at = l.classes[last], c.at
	l.classes[last] = nil
	if l.classes = l.classes[:last]; last > 0 {
		return
	}
	delete(q.lines, rank{l.level.priority, l.owner.name})
	if l.owner.lines--; l.owner.lines == 0 {
		delete(q.owners, l.owner.name)
	}
	last = len(l.level.lines) - 1
	l.level.lines[l.at], l.level.lines[last].at = l.level.lines[last], l.at
	l.level.lines[last] = nil
	if l.level.lines = l.level.lines[:last]; last == 0 {
		q.levels = slices.DeleteFunc(q.levels, func(x *level) bool { return x == l.level })
	}
}
