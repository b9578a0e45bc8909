/** The JSON of the API, as far as the scripts of the pages read it. */

type JobStatus = "pending" | "processing" | "completed" | "failed" | "cancelled";

interface JobView {
  job_id: string;
  status: JobStatus;
  error: string | null;
  workflow: string;
  stage: string | null;
  progress: ProgressView;
  outputs: OutputView[];
  parameters: Record<string, unknown>;
  metadata: Record<string, unknown>;
  priority: "normal" | "high";
  attempt: number;
  /** Every job that the API shows has one. */
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
  deadline: string | null;
  timings: Timings;
  error_detail: ErrorDetail | null;
}

interface ProgressView {
  percent: number;
  node: string | null;
  step: number | null;
  steps: number | null;
  queue_position: number | null;
  eta_seconds: number | null;
}

interface OutputView {
  name: string;
  url: string;
  content_type: string;
  size: number;
  width: number | null;
  height: number | null;
}

interface Timings {
  queued_ms: number | null;
  inputs_ms: number | null;
  run_ms: number | null;
  publish_ms: number | null;
}

interface ErrorDetail {
  code: string;
}

/** An answer that is not ok. */
interface Problem {
  detail: string;
}

/** One page of `GET /jobs`. */
interface JobList {
  data: JobView[];
  next_cursor: string | null;
  has_more: boolean;
}

/** What `GET /jobs/{job_id}/events` sends. */
type JobEvent =
  | { name: "status"; data: JobView }
  | { name: "progress"; data: ProgressView }
  | { name: "preview"; data: Preview }
  | { name: "problem"; data: Problem };

/** An image of a running job, in base64. */
interface Preview {
  content_type: string;
  data: string;
}

type HealthState = "healthy" | "degraded" | "unhealthy";

interface Health {
  status: HealthState;
  components: Record<string, { status: HealthState; reason: string | null }>;
}

/** One workflow of `GET /workflows`; one whose definition is invalid has no title. */
interface WorkflowView {
  slug: string;
  title?: string;
  health: HealthState;
  problems: string[];
}

// -- the OpenAPI document ------------------------------------------------------------------------

interface OpenApiDocument {
  info: { title: string; version: string };
  paths: Record<string, Record<string, OpenApiOperation>>;
  tags?: { name: string; description?: string }[];
  security?: object[];
  "x-common-fields"?: string[];
}

interface OpenApiOperation {
  operationId?: string;
  summary?: string;
  description?: string;
  tags?: string[];
  parameters?: Parameter[];
  requestBody?: { content: Record<string, MediaType> };
  responses?: Record<string, OpenApiResponse>;
  security?: object[];
}

interface OpenApiResponse {
  description?: string;
  content?: Record<string, MediaType>;
}

interface Parameter {
  name: string;
  in: "path" | "query" | "header";
  required?: boolean;
  description?: string;
  schema?: Schema;
}

interface MediaType {
  schema?: Schema;
  example?: unknown;
  examples?: Record<string, { value: unknown }>;
}

interface Schema {
  $ref?: string;
  type?: string | string[];
  anyOf?: Schema[];
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  description?: string;
  default?: unknown;
  const?: string;
  enum?: unknown[];
  examples?: unknown[];
  /** Text where it is too large for a number of JavaScript's. */
  minimum?: number | string;
  maximum?: number | string;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  multipleOf?: number;
  pattern?: string;
  format?: string;
  contentMediaType?: string;
}
