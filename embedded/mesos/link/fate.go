package link

import "time"

// Fate is what becomes of one message on its way. The zero value lets it arrive,
// once and at once.
type Fate struct {
	Drop bool
	// Delay holds the message back; those that are sent meanwhile overtake it.
	Delay time.Duration
	// Copies arrive besides the message itself, each one Delay after the last.
	Copies int
}

// Deliver calls send, which must not block, as often and as late as f says.
func (f Fate) Deliver(send func()) {
	if f.Drop {
		return
	}
	for i := range f.Copies + 1 {
		if d := time.Duration(i+1) * f.Delay; d > 0 {
			time.AfterFunc(d, send)
		} else {
			send()
		}
	}
}

// CallFate is what becomes of a scheduler's call that the master has read and
// found valid. The zero value carries it out and answers it.
type CallFate struct {
	Delay time.Duration // before anything else happens
	Lose  bool          // the call is not carried out
	Cut   bool          // the connection ends instead of an answer
}
