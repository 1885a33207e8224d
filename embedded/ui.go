package embedded

import (
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/temporalio/ui-server/v2/server/api"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/cors"
	"github.com/temporalio/ui-server/v2/server/csrf"
	"github.com/temporalio/ui-server/v2/server/headers"
	"github.com/temporalio/ui-server/v2/server/route"
	"github.com/temporalio/ui-server/v2/ui"
)

// webUI is the Temporal Web UI on a port of its own.
//
// It is put together from the parts of ui-server, because ui-server's own Server
// takes no listener and ends the process when its port is taken.
type webUI struct {
	port   int
	server *http.Server
	done   sync.WaitGroup
}

func startUI(config TemporalConfig, temporalAddress string) (*webUI, error) {
	handler, err := uiHandler(&uiconfig.Config{
		TemporalGRPCAddress: temporalAddress,
		DefaultNamespace:    config.Namespace,
		EnableUI:            true,
		HideLogs:            true,
		DisableNewsFetch:    true,
		CORS:                uiconfig.CORS{CookieInsecure: true},
	})
	if err != nil {
		return nil, fmt.Errorf("web UI: %w", err)
	}
	listener, err := listenPreferring(config.Host, config.UIPort)
	if err != nil {
		return nil, fmt.Errorf("web UI: %w", err)
	}
	u := &webUI{
		port: portOf(listener),
		server: &http.Server{
			Handler:           handler,
			ReadHeaderTimeout: 10 * time.Second,
			ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		},
	}
	u.done.Go(func() { u.serve(listener, config.Logger) })
	return u, nil
}

func (u *webUI) serve(listener net.Listener, log *slog.Logger) {
	if err := u.server.Serve(listener); err != http.ErrServerClosed {
		log.Error("the web UI has ended", "error", err)
	}
}

func (u *webUI) stop() {
	u.server.Close()
	u.done.Wait()
}

func uiHandler(config *uiconfig.Config) (http.Handler, error) {
	provider, err := uiconfig.NewConfigProviderWithRefresh(config)
	if err != nil {
		return nil, err
	}
	e := echo.New()
	e.Logger.SetOutput(io.Discard)
	e.Use(
		middleware.Recover(),
		middleware.Gzip(),
		cors.CORSMiddleware(cors.CORSConfig{
			AllowHeaders: []string{
				echo.HeaderOrigin, echo.HeaderContentType, echo.HeaderAccept,
				echo.HeaderXCSRFToken, echo.HeaderAuthorization, callerType,
			},
			AllowCredentials: true,
			ConfigProvider:   provider,
		}),
		middleware.Secure(),
		middleware.CSRFWithConfig(middleware.CSRFConfig{
			CookiePath:     "/",
			CookieSameSite: http.SameSiteStrictMode,
			CookieSecure:   !config.CORS.CookieInsecure,
			Skipper:        csrf.SkipOnAuthorizationHeader,
		}),
	)
	assets, err := uiAssets()
	if err != nil {
		return nil, err
	}
	route.SetHealthRoute(e)
	forward := []api.Middleware{headers.WithForwardHeaders([]string{callerType})}
	if err := route.SetAPIRoutes(e, provider, forward); err != nil {
		return nil, err
	}
	if err := route.SetUIRoutes(e, "", assets); err != nil {
		return nil, err
	}
	route.SetRenderRoute(e, "")
	return e, nil
}

// callerType is a header by which the UI tells the server of its polling.
const callerType = "Caller-Type"

func uiAssets() (fs.FS, error) {
	assets, err := ui.Assets()
	if err != nil {
		return nil, err
	}
	return fs.Sub(assets, "local")
}
