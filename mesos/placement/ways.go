package placement

// Way is another way to run a task than with its Need, Executor and Overhead:
// on resources of another kind, which takes an executor of its own.
type Way struct {
	Need     Vector
	Executor string
	Overhead Vector
}

// way gives a way that the task may go; see Assignment.Way.
func (t *Task) way(n int) Way {
	if n == 0 {
		return Way{t.Need, t.Executor, t.Overhead}
	}
	return t.Rather[n-1]
}
