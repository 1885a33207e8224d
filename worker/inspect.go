package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/baas-batch/baas/api"
	"github.com/baas-batch/baas/mesos"
)

// maxInspection bounds the answer, in bytes: Temporal refuses payloads of 2 MB.
const maxInspection = 1 << 20

// inspector answers what a leader's framework holds.
type inspector struct {
	leader string
	fw     *mesos.Framework
}

// inspect is the activity api.ActivityInspect.
func (i *inspector) inspect(_ context.Context, in api.InspectInput) (api.Inspection, error) {
	limit := in.Limit
	if limit <= 0 || limit > api.MaxInspectRows {
		limit = api.MaxInspectRows
	}
	out := api.Inspection{Leader: i.leader, At: time.Now().UTC()}
	for {
		view, err := i.view(in.What, limit)
		if err != nil {
			return out, err
		}
		if out.View, err = json.Marshal(view); err != nil {
			return out, err
		}
		if len(out.View) <= maxInspection || limit <= 1 {
			return out, nil
		}
		limit /= 2
	}
}

func (i *inspector) view(what string, limit int) (mesos.View, error) {
	switch what {
	case api.InspectAgents:
		return i.fw.ViewAgents(limit), nil
	case api.InspectOffers:
		return i.fw.ViewOffers(limit), nil
	case api.InspectTasks:
		return i.fw.ViewTasks(limit), nil
	case api.InspectRoles:
		return i.fw.ViewRoles(limit), nil
	}
	return mesos.View{}, temporal.NewNonRetryableApplicationError(fmt.Sprintf("cannot inspect %q", what), "InvalidInput", nil)
}
