package fault

import (
	"slices"
)

// frameworks are the IDs of all frameworks that have ever registered.
func (w *World) frameworks() []string {
	w.Helper()
	type framework struct {
		FrameworkInfo struct {
			ID struct{ Value string } `json:"id"`
		} `json:"framework_info"`
	}
	var answer struct {
		GetFrameworks struct {
			Frameworks []framework `json:"frameworks"`
			Completed  []framework `json:"completed_frameworks"`
		} `json:"get_frameworks"`
	}
	w.do(w.operator(w.Context(), `{"type": "GET_FRAMEWORKS"}`, &answer))
	var ids []string
	for _, f := range slices.Concat(answer.GetFrameworks.Frameworks, answer.GetFrameworks.Completed) {
		ids = append(ids, f.FrameworkInfo.ID.Value)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// oneFramework checks how many frameworks have ever registered: one for each time
// that the singleton was started anew.
func (w *crashWorld) oneFramework(births int) {
	w.Helper()
	if ids := w.frameworks(); len(ids) != births {
		w.Errorf("the frameworks %v have registered, want %d", ids, births)
	}
}
