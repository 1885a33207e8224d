package swift

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/ncw/swift/v2"

	"github.com/baas-batch/baas/storage"
	"github.com/baas-batch/baas/storage/internal/remote"
)

var errNoContainer = errors.New("the container does not exist: create it (openstack container create NAME), or correct the storage URL")

// failed says what was tried, what is wrong and what would be right.
func (s *Store) failed(what, key string, err error) error {
	if err == nil {
		return nil
	}
	place := fmt.Sprintf("%s %q in container %s", what, key, s.o.Container)
	var status *statusError
	if errors.As(err, &status) {
		switch hint := hints[status.code]; {
		case errors.Is(err, storage.ErrInvalidPart):
		case status.code == http.StatusNotFound && what == "list", status.code == http.StatusNotFound && what == "put":
			return fmt.Errorf("%s: %w: %w", place, errNoContainer, err)
		case status.code == http.StatusNotFound:
			return fmt.Errorf("%s: %w: %w", place, storage.ErrNotExist, err)
		case hint != "":
			return fmt.Errorf("%s: %s: %w", place, hint, err)
		}
	} else if hint := remote.Hint(err); hint != "" {
		return fmt.Errorf("%s: %s: %w", place, hint, err)
	}
	return fmt.Errorf("%s: %w", place, err)
}

// hints by the status of an answer.
var hints = map[int]string{
	http.StatusUnauthorized:          "the server takes no token of this login: check the project and the region",
	http.StatusForbidden:             "the user may not do this: it needs a role that writes the account (such as member or swiftoperator)",
	http.StatusConflict:              "a segment of the object is gone or has changed",
	http.StatusRequestEntityTooLarge: "the quota of the account or container is used up, or a segment is larger than the server allows (part_size)",
	http.StatusInsufficientStorage:   "the server's disks are full",
}

// loginError explains why there is no token. It never holds the password.
func loginError(conn *swift.Connection, err error) error {
	var status *swift.Error
	if errors.As(err, &status) {
		switch status.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return fmt.Errorf("logging in at %s: user, password, project or domain are wrong (OS_USERNAME, OS_PASSWORD, OS_PROJECT_NAME, OS_USER_DOMAIN_NAME, or clouds.yaml)", conn.AuthUrl)
		case http.StatusNotFound, http.StatusMultipleChoices:
			return fmt.Errorf("logging in at %s: there is no such service: OS_AUTH_URL mostly ends in /v3: %w", conn.AuthUrl, err)
		}
	}
	if hint := remote.Hint(err); hint != "" {
		return fmt.Errorf("logging in at %s: %s: %w", conn.AuthUrl, hint, err)
	}
	return fmt.Errorf("logging in at %s: %w", conn.AuthUrl, err)
}
