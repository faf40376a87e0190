package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	mainstayv1 "example.com/entityreport/gen/mainstay/v1"
)

func printRun(run *mainstayv1.Run) error {
	fmt.Println("run     ", run.GetRunId())
	fmt.Printf("policy   %s, version %d\n", run.GetPolicy().GetName(), run.GetPolicy().GetVersion())
	fmt.Println("state   ", name(run.GetState(), "RUN_STATE_"))
	for _, step := range run.GetSteps() {
		printStep(step, "step "+step.GetStep(), "")
		for _, element := range step.GetElements() {
			printStep(element, fmt.Sprint("element ", element.GetElement()), "  ")
		}
	}
	// Numbers and the order of keys come through as the pipeline made them.
	var output bytes.Buffer
	if err := json.Indent(&output, []byte(run.GetOutputJson()), "", "  "); err != nil {
		return fmt.Errorf("the output is not JSON: %w", err)
	}
	fmt.Println("output")
	fmt.Println(output.String())
	usage := run.GetUsage()
	fmt.Printf("usage    %d input and %d output tokens\n", usage.GetInputTokens(), usage.GetOutputTokens())
	fmt.Printf("cost     $%.6f\n", usage.GetCostUsd())
	fmt.Println("trace   ", run.GetTraceId())
	return nil
}

func printStep(result *mainstayv1.StepResult, title, indent string) {
	facts := []string{name(result.GetState(), "RUN_STATE_")}
	if result.GetDegraded() != mainstayv1.DegradedSource_DEGRADED_SOURCE_UNSPECIFIED {
		facts = append(facts, "from "+strings.ToLower(name(result.GetDegraded(), "DEGRADED_SOURCE_")))
	}
	if result.GetTarget() != "" {
		facts = append(facts, "target "+result.GetTarget())
	}
	if len(result.GetElements()) > 0 {
		facts = append(facts, fmt.Sprint("elements ", len(result.GetElements())))
	} else {
		facts = append(facts, fmt.Sprint("attempts ", len(result.GetAttempts())))
	}
	fmt.Printf("%s%s: %s\n", indent, title, strings.Join(facts, ", "))
	for _, attempt := range result.GetAttempts() {
		if failure := attempt.GetFailure(); failure != nil {
			fmt.Printf("%s  attempt %d on %s: %s/%s -> %s\n", indent, attempt.GetNumber(), attempt.GetTarget(),
				domain(failure), failure.GetCause(), describe(attempt.GetDecision()))
		}
	}
}

func describe(decision *mainstayv1.Decision) string {
	words := action(decision.GetAction())
	if wait := decision.GetWait(); wait != nil {
		words += fmt.Sprintf(", wait %.2f s", wait.AsDuration().Seconds())
	}
	if decision.GetNextTarget() != "" {
		words += ", next " + decision.GetNextTarget()
	}
	return words
}

func printError(failed *CallError) {
	fmt.Printf("code     %s: %s\n", failed.Code, failed.Message)
	if info := failed.Info; info != nil {
		fmt.Printf("reason   %s (%s)\n", info.GetReason(), info.GetDomain())
		for _, key := range slices.Sorted(maps.Keys(info.GetMetadata())) {
			fmt.Printf("         %s = %s\n", key, info.GetMetadata()[key])
		}
	}
	if failure := failed.Failure; failure != nil {
		fmt.Printf("failure  %s/%s: %s\n", domain(failure), failure.GetCause(), failure.GetMessage())
		fmt.Printf("         step %s, attempts %d, last %s\n", failure.GetStep(), failure.GetAttempts(), action(failure.GetAction()))
		fmt.Printf("         run %s\n", failure.GetRunId())
	}
	for _, violation := range failed.Violations {
		fmt.Printf("field    %s: %s\n", violation.GetField(), violation.GetDescription())
	}
	if failed.RetryDelay != nil {
		fmt.Printf("retry    after %.2f s\n", failed.RetryDelay.Seconds())
	}
	for _, key := range []string{"mainstay-run-id", "mainstay-failure-domain", "mainstay-failure-cause"} {
		if value, ok := failed.Trailers[key]; ok {
			fmt.Printf("trailer  %s: %s\n", key, value)
		}
	}
}

func domain(failure *mainstayv1.Failure) string {
	return name(failure.GetDomain(), "FAILURE_DOMAIN_")
}

func action(value mainstayv1.RecoveryAction) string {
	if value == mainstayv1.RecoveryAction_RECOVERY_ACTION_UNSPECIFIED {
		return "no action"
	}
	return strings.ToLower(name(value, "RECOVERY_ACTION_"))
}

// name gives RUN_STATE_FAILED as FAILED, and a value that is newer than the generated code as its
// number.
func name(value fmt.Stringer, prefix string) string {
	return strings.TrimPrefix(value.String(), prefix)
}
