package main

import (
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	mainstayv1 "example.com/entityreport/gen/mainstay/v1"
)

// CallError is what a failed call says about itself. Everything but Code and Message may be missing.
type CallError struct {
	Code    codes.Code
	Message string
	// Info holds a stable reason to branch on: the cause of a failed run, or an error of the
	// service itself.
	Info *errdetails.ErrorInfo
	// Failure says why the run failed; nil if there was no run, or the call never got to the server.
	Failure *mainstayv1.Failure
	// RetryDelay is how long to wait before the same request is worth sending again.
	RetryDelay *time.Duration
	// Violations are the faults of a malformed request.
	Violations []*errdetails.BadRequest_FieldViolation
	// Trailers are mainstay-run-id and the like: plain text, for proxies and logs that read no
	// protobuf.
	Trailers map[string]string

	cause error
}

// NewCallError decodes the status of an error returned by a client, and the trailers of its call.
func NewCallError(err error, trailers metadata.MD) *CallError {
	// Also gives DeadlineExceeded and Canceled for the errors of a context.
	converted := status.Convert(err)
	failed := &CallError{
		Code:     converted.Code(),
		Message:  converted.Message(),
		Trailers: map[string]string{},
		cause:    err,
	}
	for _, detail := range converted.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			failed.Info = detail
		case *mainstayv1.Failure:
			failed.Failure = detail
		case *errdetails.RetryInfo:
			delay := detail.GetRetryDelay().AsDuration()
			failed.RetryDelay = &delay
		case *errdetails.BadRequest:
			failed.Violations = append(failed.Violations, detail.GetFieldViolations()...)
		}
	}
	for key, values := range trailers {
		if strings.HasPrefix(key, "mainstay-") && len(values) > 0 {
			failed.Trailers[key] = values[0]
		}
	}
	return failed
}

func (e *CallError) Error() string { return e.cause.Error() }

func (e *CallError) Unwrap() error { return e.cause }
