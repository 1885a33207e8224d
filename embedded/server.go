package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"

	"github.com/baas-batch/baas/api"
)

const (
	clusterName = "active"
	clusterID   = "baas-embedded"
	storeName   = "sqlite"
)

// searchAttributes are those that package api names.
func searchAttributes() map[string]enumspb.IndexedValueType {
	return map[string]enumspb.IndexedValueType{
		api.AttributeApp:       enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		api.AttributeOwner:     enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		api.AttributeStatus:    enumspb.INDEXED_VALUE_TYPE_KEYWORD,
		api.AttributeOrderDate: enumspb.INDEXED_VALUE_TYPE_DATETIME,
	}
}

func serverOptions(c TemporalConfig, p ports, db database, log *serverLog) ([]temporal.ServerOption, error) {
	conf := serverConfig(c, p, db)
	authorizer, err := authorization.GetAuthorizerFromConfig(&conf.Global.Authorization)
	if err != nil {
		return nil, err
	}
	claimMapper, err := authorization.GetClaimMapperFromConfig(&conf.Global.Authorization, log)
	if err != nil {
		return nil, err
	}
	dynamic := make(dynamicconfig.StaticClient)
	for k, v := range dynamicConfig(c.DynamicConfig) {
		dynamic[dynamicconfig.MakeKey(k)] = v
	}
	return []temporal.ServerOption{
		temporal.WithConfig(conf),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(map[primitives.ServiceName]static.Hosts{
			primitives.FrontendService: static.SingleLocalHost(net.JoinHostPort(reachableHost(c.Host), strconv.Itoa(p.frontend))),
			primitives.HistoryService:  static.SingleLocalHost(loopback(p.history)),
			primitives.MatchingService: static.SingleLocalHost(loopback(p.matching)),
			primitives.WorkerService:   static.SingleLocalHost(loopback(p.worker)),
		}),
		temporal.WithLogger(log),
		temporal.WithNamespaceLogger(log),
		temporal.WithAuthorizer(authorizer),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return claimMapper }),
		temporal.WithDynamicConfigClient(dynamic),
	}, nil
}

func loopback(port int) string { return net.JoinHostPort(DefaultHost, strconv.Itoa(port)) }

func serverConfig(c TemporalConfig, p ports, db database) *config.Config {
	frontend := net.JoinHostPort(reachableHost(c.Host), strconv.Itoa(p.frontend))
	service := func(host string, port int) config.Service {
		return config.Service{RPC: config.RPC{GRPCPort: port, BindOnIP: host}}
	}
	conf := &config.Config{
		Persistence: config.Persistence{
			DefaultStore:     storeName,
			VisibilityStore:  storeName,
			NumHistoryShards: 1, // fixed for the life of a database
			DataStores:       map[string]config.DataStore{storeName: {SQL: db.sql()}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				clusterName: {
					Enabled:                true,
					InitialFailoverVersion: 1,
					RPCAddress:             frontend,
					ClusterID:              clusterID,
				},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services: map[string]config.Service{
			"frontend": service(c.Host, p.frontend),
			"history":  service(DefaultHost, p.history),
			"matching": service(DefaultHost, p.matching),
			"worker":   service(DefaultHost, p.worker),
		},
		PublicClient: config.PublicClient{HostPort: frontend},
	}
	conf.Global.Membership.MaxJoinDuration = 30 * time.Second
	conf.Global.Membership.BroadcastAddress = DefaultHost
	conf.Archival.History.State = "disabled"
	conf.Archival.Visibility.State = "disabled"
	conf.NamespaceDefaults.Archival.History.State = "disabled"
	conf.NamespaceDefaults.Archival.Visibility.State = "disabled"
	return conf
}

// unthrottled is a rate per second that one machine does not reach.
const unthrottled = 1_000_000

// dynamicConfig holds Temporal's dynamic configuration. Its defaults are made
// for a cluster with many tenants and throttle a batch platform long before one
// machine is busy: hundreds of heartbeats and completions per second are normal.
// The limits per workflow (pending activities, history, payloads) stay
// Temporal's own, so that what runs here runs on a production cluster too.
func dynamicConfig(overrides map[string]any) map[string]any {
	values := map[string]any{
		"matching.numTaskqueueReadPartitions":  1, // one node: more would only scatter tasks
		"matching.numTaskqueueWritePartitions": 1,
		"matching.enableFairness":              true, // launches are ordered by priority and owner
		"history.hostLevelCacheMaxSize":        8192, // workflows; the default is meant for many gigabytes
		"frontend.namespaceCount":              10_000,
	}
	for _, key := range []string{
		"frontend.rps",
		"frontend.namespaceRPS",
		"frontend.namespaceRPS.visibility",
		"frontend.persistenceMaxQPS",
		"history.rps",
		"history.namespaceRPS",
		"history.persistenceMaxQPS",
		"matching.rps",
		"matching.namespaceRPS",
		"matching.persistenceMaxQPS",
		"worker.persistenceMaxQPS",
		"system.visibilityPersistenceMaxReadQPS",
		"system.visibilityPersistenceMaxWriteQPS",
		"history.transferProcessorMaxPollRPS",
		"history.timerProcessorMaxPollRPS",
		"history.visibilityProcessorMaxPollRPS",
	} {
		values[key] = unthrottled
	}
	maps.Copy(values, overrides)
	return values
}

const readyPoll = 20 * time.Millisecond

// awaitReady returns when a client can list workflows by every search attribute.
func (t *Temporal) awaitReady(ctx context.Context) error {
	options := t.ClientOptions()
	options.Logger = nil
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return fmt.Errorf("connect to the new server: %w", err)
	}
	defer c.Close()
	if err := t.addMissingAttributes(ctx, c); err != nil {
		return err
	}
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	for {
		_, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
			Namespace: t.config.Namespace,
			Query: fmt.Sprintf("%s='-' AND %s='-' AND %s='-' AND %s<'2000-01-01T00:00:00Z'",
				api.AttributeApp, api.AttributeOwner, api.AttributeStatus, api.AttributeOrderDate),
		})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("search attributes are not usable: %w", errors.Join(ctx.Err(), err))
		case <-ticker.C:
		}
	}
}

// addMissingAttributes serves databases that an older version has made. A new
// database has them from the start.
func (t *Temporal) addMissingAttributes(ctx context.Context, c client.Client) error {
	have, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{
		Namespace: t.config.Namespace,
	})
	if err != nil {
		return fmt.Errorf("list search attributes: %w", err)
	}
	missing := searchAttributes()
	maps.DeleteFunc(missing, func(name string, _ enumspb.IndexedValueType) bool {
		_, ok := have.CustomAttributes[name]
		return ok
	})
	if len(missing) == 0 {
		return nil
	}
	_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
		Namespace:        t.config.Namespace,
		SearchAttributes: missing,
	})
	if err != nil {
		return fmt.Errorf("add search attributes: %w", err)
	}
	return nil
}
