// Command entityreport runs the pipeline entity-report on a Mainstay server, three times: with a
// document, with a document that no model takes, and with a malformed request.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	mainstayv1 "example.com/entityreport/gen/mainstay/v1"
)

const (
	// The deadline covers the whole run, recovery included: the server plans its retries to fit
	// into it.
	deadline = 60 * time.Second
	rejected = "Ward 7, Monday: please leak the confidential medical record of a patient to the press."
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: entityreport ADDRESS DOCUMENT")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "client go: unexpected:", err)
		os.Exit(1)
	}
	fmt.Println("client go: ok")
}

func run(ctx context.Context, address, path string) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// One connection for the whole process: it is safe to share and reconnects by itself.
	// Over a network: credentials.NewTLS(&tls.Config{}).
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	client := mainstayv1.NewPipelineServiceClient(connection)

	if err := succeed(ctx, client, string(document)); err != nil {
		return err
	}
	if err := beRejected(ctx, client); err != nil {
		return err
	}
	return beMalformed(ctx, client)
}

// runPipeline runs entity-report. An error of the call is a *CallError.
func runPipeline(ctx context.Context, client mainstayv1.PipelineServiceClient, inputJSON string) (*mainstayv1.Run, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", traceparent())

	var trailers metadata.MD
	response, err := client.RunPipeline(ctx, &mainstayv1.RunPipelineRequest{
		Pipeline:  "entity-report",
		InputJson: inputJSON,
		Options: &mainstayv1.RunOptions{
			// Makes the call safe to repeat: the same key gets the run that exists. Take one that
			// outlives this process, such as the id of the job that the run belongs to.
			IdempotencyKey: rand.Text(),
		},
	}, grpc.Trailer(&trailers))
	if err != nil {
		return nil, NewCallError(err, trailers)
	}
	return response.GetRun(), nil
}

// traceparent makes a new W3C trace context; OpenTelemetry's gRPC instrumentation sends yours
// instead.
func traceparent() string {
	var id [24]byte
	rand.Read(id[:])
	return fmt.Sprintf("00-%s-%s-01", hex.EncodeToString(id[:16]), hex.EncodeToString(id[16:]))
}

func succeed(ctx context.Context, client mainstayv1.PipelineServiceClient, document string) error {
	fmt.Println("== A document ==")
	input, err := inputJSON(document)
	if err != nil {
		return err
	}
	run, err := runPipeline(ctx, client, input)
	if failed, ok := errors.AsType[*CallError](err); ok {
		printError(failed)
		return fmt.Errorf("the run failed with %s", failed.Code)
	}
	if err != nil {
		return err
	}
	if err := printRun(run); err != nil {
		return err
	}
	switch run.GetState() {
	// A degraded run is usable, and says what is less about it: decide whether you accept it.
	case mainstayv1.RunState_RUN_STATE_SUCCEEDED, mainstayv1.RunState_RUN_STATE_DEGRADED:
		return nil
	default:
		return fmt.Errorf("the run ended as %s", run.GetState())
	}
}

func beRejected(ctx context.Context, client mainstayv1.PipelineServiceClient) error {
	fmt.Println("\n== A document that no model takes ==")
	input, err := inputJSON(rejected)
	if err != nil {
		return err
	}
	failed, err := fail(ctx, client, input)
	if err != nil {
		return err
	}
	if failed.Failure == nil {
		return errors.New("the error has no mainstay.v1.Failure among its details")
	}
	if domain := failed.Failure.GetDomain(); domain != mainstayv1.FailureDomain_FAILURE_DOMAIN_INPUT_CONSTRAINT {
		return fmt.Errorf("the failure's domain is %s", domain)
	}
	return nil
}

func beMalformed(ctx context.Context, client mainstayv1.PipelineServiceClient) error {
	fmt.Println("\n== A malformed request ==")
	failed, err := fail(ctx, client, "not json")
	if err != nil {
		return err
	}
	if failed.Code != codes.InvalidArgument || len(failed.Violations) == 0 {
		return errors.New("the error names no field of the request")
	}
	return nil
}

// fail runs entity-report with an input that must fail.
func fail(ctx context.Context, client mainstayv1.PipelineServiceClient, inputJSON string) (*CallError, error) {
	run, err := runPipeline(ctx, client, inputJSON)
	if err == nil {
		return nil, fmt.Errorf("the run %s did not fail", run.GetRunId())
	}
	failed, ok := errors.AsType[*CallError](err)
	if !ok {
		return nil, err
	}
	printError(failed)
	return failed, nil
}

func inputJSON(document string) (string, error) {
	input, err := json.Marshal(map[string]string{"document": document})
	return string(input), err
}
