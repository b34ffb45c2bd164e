// The four services over gRPC-Web (binary), on the page's own origin.
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { CatalogService } from "../gen/featurescope/v1/catalog_pb.js";
import { ExploreService } from "../gen/featurescope/v1/explore_pb.js";
import { FeatureService } from "../gen/featurescope/v1/features_pb.js";
import { JobService } from "../gen/featurescope/v1/jobs_pb.js";

const transport = createGrpcWebTransport({ baseUrl: window.location.origin, useBinaryFormat: true });

export const catalog = createClient(CatalogService, transport);
export const explore = createClient(ExploreService, transport);
export const features = createClient(FeatureService, transport);
export const jobs = createClient(JobService, transport);

// Time limits in milliseconds: reading what is on disk, and asking the model.
export const read_timeout_ms = 20_000;
export const compute_timeout_ms = 60_000;
