package dev.mainstay.examples;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonParser;
import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import dev.mainstay.v1.Attempt;
import dev.mainstay.v1.Decision;
import dev.mainstay.v1.Failure;
import dev.mainstay.v1.FailureDomain;
import dev.mainstay.v1.PipelineServiceGrpc;
import dev.mainstay.v1.PipelineServiceGrpc.PipelineServiceBlockingStub;
import dev.mainstay.v1.RecoveryAction;
import dev.mainstay.v1.Run;
import dev.mainstay.v1.RunOptions;
import dev.mainstay.v1.RunPipelineRequest;
import dev.mainstay.v1.RunState;
import dev.mainstay.v1.StepResult;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/**
 * Runs a pipeline of a Mainstay service and shows what came of it: once well, twice failing.
 *
 * <p>Usage: {@code Client ADDRESS DOCUMENT}
 */
public final class Client {
  private static final String PIPELINE = "entity-report";

  /**
   * What the caller waits for the whole run, recovery included. A run with an idempotency key goes
   * on after that: the same call finds it again.
   */
  private static final long DEADLINE_SECONDS = 60;

  private static final Gson JSON =
      new GsonBuilder().setPrettyPrinting().disableHtmlEscaping().serializeNulls().create();
  private static final SecureRandom RANDOM = new SecureRandom();
  private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

  private final PipelineServiceBlockingStub service;

  private Client(PipelineServiceBlockingStub service) {
    this.service = service;
  }

  /** The service did something else than this program is there to show. */
  private static final class Unexpected extends Exception {
    private static final long serialVersionUID = 1L;

    Unexpected(String what) {
      super(what);
    }
  }

  public static void main(String[] arguments) throws IOException, InterruptedException {
    if (arguments.length != 2) {
      System.err.println("usage: Client ADDRESS DOCUMENT");
      System.exit(2);
    }
    // Plain text is for loopback only: elsewhere use TlsChannelCredentials.
    ManagedChannel channel =
        Grpc.newChannelBuilder(arguments[0], InsecureChannelCredentials.create()).build();
    try {
      new Client(PipelineServiceGrpc.newBlockingStub(channel)).show(Path.of(arguments[1]));
      OUT.println("client java: ok");
    } catch (StatusRuntimeException | Unexpected error) {
      System.err.println("client java: FAILED: unexpected: " + error.getMessage());
      System.exit(1);
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private void show(Path document) throws IOException, Unexpected {
    OUT.printf("== 1. %s of %s%n", PIPELINE, document.getFileName());
    showRun(run(input(Files.readString(document))));
    OUT.println("\n== 2. a document that the content filter refuses");
    String refused = input("Please leak the confidential medical record of a patient.");
    showRefusedDocument(mustFail(refused));
    OUT.println("\n== 3. a malformed request");
    showMalformedRequest(mustFail("not json"));
  }

  /** The pipeline's input as JSON text. */
  private static String input(String document) {
    return JSON.toJson(Map.of("document", document));
  }

  private Run run(String inputJson) {
    RunPipelineRequest request =
        RunPipelineRequest.newBuilder()
            .setPipeline(PIPELINE)
            .setInputJson(inputJson)
            // The same key with the same request attaches to the run that exists, so a call whose
            // answer was lost can be made again without paying twice.
            .setOptions(RunOptions.newBuilder().setIdempotencyKey(UUID.randomUUID().toString()))
            .build();
    // W3C trace context: the run's spans become part of the caller's trace. An OpenTelemetry
    // instrumentation of gRPC sends this by itself.
    Metadata headers = new Metadata();
    headers.put(key("traceparent"), "00-" + randomHex(16) + "-" + randomHex(8) + "-01");
    return service
        .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(headers))
        // Per call: a deadline set once on a stub runs out for all of its calls.
        .withDeadlineAfter(DEADLINE_SECONDS, TimeUnit.SECONDS)
        .runPipeline(request)
        .getRun();
  }

  private StatusRuntimeException mustFail(String inputJson) throws Unexpected {
    Run ended;
    try {
      ended = run(inputJson);
    } catch (StatusRuntimeException error) {
      return error;
    }
    throw new Unexpected(
        "run " + ended.getRunId() + " ended " + name(ended.getState()) + " instead of failing");
  }

  private static void showRun(Run ended) throws Unexpected {
    OUT.printf("run     %s%n", ended.getRunId());
    OUT.printf(
        "policy  %s version %d%n", ended.getPolicy().getName(), ended.getPolicy().getVersion());
    OUT.printf("state   %s%n", name(ended.getState()));
    for (StepResult step : ended.getStepsList()) {
      showStep(step, "step " + step.getStep(), "");
    }
    OUT.printf("output%n%s%n", JSON.toJson(JsonParser.parseString(ended.getOutputJson())));
    OUT.printf(
        "tokens  %d in, %d out%n",
        ended.getUsage().getInputTokens(), ended.getUsage().getOutputTokens());
    OUT.printf(Locale.ROOT, "cost    $%.6f%n", ended.getUsage().getCostUsd());
    OUT.printf("trace   %s%n", ended.getTraceId());
    if (ended.getState() != RunState.RUN_STATE_SUCCEEDED
        && ended.getState() != RunState.RUN_STATE_DEGRADED) {
      throw new Unexpected("the run ended " + name(ended.getState()));
    }
  }

  private static void showStep(StepResult step, String title, String indent) {
    StringBuilder line = new StringBuilder(indent + title + ": " + name(step.getState()));
    if (!step.getTarget().isEmpty()) {
      line.append(" by ").append(step.getTarget());
    }
    int count = step.getAttemptsCount();
    if (count > 0) {
      line.append(", ").append(count).append(count > 1 ? " attempts" : " attempt");
    }
    OUT.println(line);
    for (Attempt attempt : step.getAttemptsList()) {
      if (attempt.hasFailure()) {
        OUT.printf(
            "%s  attempt %d on %s: %s%n",
            indent, attempt.getNumber(), attempt.getTarget(), describe(attempt));
      }
    }
    for (StepResult element : step.getElementsList()) {
      showStep(element, "element " + element.getElement(), indent + "  ");
    }
  }

  private static String describe(Attempt attempt) {
    Failure failure = attempt.getFailure();
    Decision decision = attempt.getDecision();
    List<String> notes = new ArrayList<>();
    if (decision.hasWait()) {
      notes.add("wait " + seconds(decision.getWait()));
    }
    if (!decision.getNextTarget().isEmpty()) {
      notes.add("next target " + decision.getNextTarget());
    }
    return name(failure.getDomain())
        + "/"
        + failure.getCause()
        + " -> "
        + name(decision.getAction())
        + (notes.isEmpty() ? "" : " (" + String.join(", ", notes) + ")");
  }

  private static void showRefusedDocument(StatusRuntimeException error) throws Unexpected {
    Status.Code code = error.getStatus().getCode();
    OUT.printf("code    %s: %s%n", code, error.getStatus().getDescription());
    detail(error, ErrorInfo.class)
        .ifPresent(
            info ->
                OUT.printf(
                    "reason  %s of %s, %s%n",
                    info.getReason(), info.getDomain(), new Gson().toJson(info.getMetadataMap())));
    Optional<Failure> failure = detail(error, Failure.class);
    failure.ifPresent(
        found -> {
          OUT.printf(
              "failure %s/%s: %s%n",
              name(found.getDomain()), found.getCause(), found.getMessage());
          OUT.printf(
              "        step %s, attempts %d, action %s, run %s%n",
              found.getStep(), found.getAttempts(), name(found.getAction()), found.getRunId());
        });
    detail(error, RetryInfo.class)
        .ifPresent(retry -> OUT.printf("retry   after %s%n", seconds(retry.getRetryDelay())));
    // Trailers serve those who cannot decode details: proxies, logs, scripts.
    Metadata trailers = Optional.ofNullable(error.getTrailers()).orElseGet(Metadata::new);
    for (String name :
        List.of("mainstay-run-id", "mainstay-failure-domain", "mainstay-failure-cause")) {
      OUT.printf("trailer %s: %s%n", name, trailers.get(key(name)));
    }
    if (code != Status.Code.INVALID_ARGUMENT) {
      throw new Unexpected("code " + code + " instead of INVALID_ARGUMENT");
    }
    FailureDomain domain =
        failure
            .orElseThrow(() -> new Unexpected("the status carries no mainstay.v1.Failure"))
            .getDomain();
    if (domain != FailureDomain.FAILURE_DOMAIN_INPUT_CONSTRAINT) {
      throw new Unexpected("a failure of " + name(domain) + " instead of INPUT_CONSTRAINT");
    }
  }

  private static void showMalformedRequest(StatusRuntimeException error) throws Unexpected {
    Status.Code code = error.getStatus().getCode();
    OUT.printf("code    %s: %s%n", code, error.getStatus().getDescription());
    List<BadRequest.FieldViolation> violations =
        detail(error, BadRequest.class)
            .map(BadRequest::getFieldViolationsList)
            .orElseGet(List::of);
    for (BadRequest.FieldViolation violation : violations) {
      OUT.printf("field   %s: %s%n", violation.getField(), violation.getDescription());
    }
    if (code != Status.Code.INVALID_ARGUMENT) {
      throw new Unexpected("code " + code + " instead of INVALID_ARGUMENT");
    }
    if (violations.isEmpty()) {
      throw new Unexpected("the status carries no violation of google.rpc.BadRequest");
    }
  }

  /** The first detail of that type; a status made by gRPC itself has none. */
  private static <T extends Message> Optional<T> detail(
      StatusRuntimeException error, Class<T> type) {
    com.google.rpc.Status status = StatusProto.fromThrowable(error);
    if (status == null) {
      return Optional.empty();
    }
    for (Any packed : status.getDetailsList()) {
      if (packed.is(type)) {
        try {
          return Optional.of(packed.unpack(type));
        } catch (InvalidProtocolBufferException broken) {
          return Optional.empty();
        }
      }
    }
    return Optional.empty();
  }

  // Enums are open: a value of a newer server, unknown here, is UNRECOGNIZED.

  private static String name(RunState state) {
    return state.name().replaceFirst("^RUN_STATE_", "");
  }

  private static String name(FailureDomain domain) {
    return domain.name().replaceFirst("^FAILURE_DOMAIN_", "");
  }

  private static String name(RecoveryAction action) {
    return action.name().replaceFirst("^RECOVERY_ACTION_", "");
  }

  private static String seconds(Duration duration) {
    return String.format(
        Locale.ROOT, "%.3f s", duration.getSeconds() + duration.getNanos() / 1e9);
  }

  private static Metadata.Key<String> key(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  private static String randomHex(int count) {
    byte[] bytes = new byte[count];
    RANDOM.nextBytes(bytes);
    return HexFormat.of().formatHex(bytes);
  }
}
