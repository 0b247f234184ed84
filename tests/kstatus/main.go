// Command kstatus says what kstatus, the library by which Flux, kpt and others wait for objects, makes of objects: JSON objects on standard input, and for
// each a line of JSON with status and message on standard output. Called with "kubectl" as its first argument it is kubectl.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type verdict struct {
	Status  status.Status `json:"status"`
	Message string        `json:"message"`
}

func judge(in io.Reader, out io.Writer) error {
	objects, verdicts := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var text json.RawMessage
		if err := objects.Decode(&text); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("failed to read an object: %w", err)
		}
		// Whole numbers must be such: kstatus looks for generations, and a float64 is none.
		var object unstructured.Unstructured
		if err := object.UnmarshalJSON(text); err != nil {
			return fmt.Errorf("failed to read an object: %w", err)
		}
		result, err := status.Compute(&object)
		if err != nil {
			return fmt.Errorf("kstatus refuses %s '%s': %w", object.GetKind(), object.GetName(), err)
		}
		if err := verdicts.Encode(verdict{result.Status, result.Message}); err != nil {
			return fmt.Errorf("failed to write a verdict: %w", err)
		}
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "kubectl" {
		kubectl(os.Args[1:])
		return
	}
	if err := judge(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
