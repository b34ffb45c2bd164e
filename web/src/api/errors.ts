// What a failed call says to a person, and at which form fields.
//
// The server explains INVALID_ARGUMENT with google.rpc.BadRequest in the status details; the contract has a
// message of the same form.
import { fromBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import { BadRequestSchema } from "../gen/featurescope/v1/errors_pb.js";

export interface FieldViolation {
  field: string;
  description: string;
}

export interface ApiError {
  title: string;
  message: string;
  code: Code;
  violations: FieldViolation[];
}

const titles: Partial<Record<Code, string>> = {
  [Code.InvalidArgument]: "The request was not accepted",
  [Code.NotFound]: "Not found",
  [Code.AlreadyExists]: "This exists already",
  [Code.FailedPrecondition]: "Not possible now",
  [Code.OutOfRange]: "Out of range",
  [Code.ResourceExhausted]: "The server is busy",
  [Code.Unavailable]: "The server cannot be reached",
  [Code.DeadlineExceeded]: "The server took too long",
  [Code.PermissionDenied]: "Not allowed",
  [Code.Unauthenticated]: "Not signed in",
  [Code.Unimplemented]: "This server cannot do that",
  [Code.Internal]: "The server failed",
  [Code.Canceled]: "Cancelled",
};

export function readViolations(bytes: Uint8Array): FieldViolation[] {
  const { fieldViolations } = fromBinary(BadRequestSchema, bytes);
  return fieldViolations.map(({ field, description }) => ({ field, description }));
}

function violationsOf(error: ConnectError): FieldViolation[] {
  try {
    return error.details.flatMap((detail) =>
      "type" in detail && detail.type === "google.rpc.BadRequest" ? readViolations(detail.value) : [],
    );
  } catch {
    return []; // The details are an addition; the message stands without them.
  }
}

export function describeError(cause: unknown): ApiError {
  const error = ConnectError.from(cause);
  const unreachable = error.code === Code.Unknown && cause instanceof TypeError;
  const code = unreachable ? Code.Unavailable : error.code;
  return {
    title: titles[code] ?? "Something went wrong",
    message: error.rawMessage === "" ? `The server gave no reason (${Code[code]}).` : error.rawMessage,
    code,
    violations: violationsOf(error),
  };
}

// Whether the call ended because we ended it. Browsers may report an abort as a DOMException.
export function wasAborted(cause: unknown, signal?: AbortSignal): boolean {
  if (signal?.aborted === true) return true;
  return ConnectError.from(cause).code === Code.Canceled;
}

// The message for one field of a form: `spec.d_sae` and `d_sae` both name d_sae.
export function violationOf(error: ApiError | undefined, field: string): string | undefined {
  return error?.violations.find((v) => v.field === field || v.field.endsWith(`.${field}`))?.description;
}
