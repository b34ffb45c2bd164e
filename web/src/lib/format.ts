// Numbers, times and sizes as they are shown. All functions are pure and never return "NaN".

const missing = "–";
const minus = "−";

function signed(text: string): string {
  return text.replace(/-/g, minus);
}

// Three significant digits, without exponents between 1e-4 and 1e6: 0.0123, 1.23, 12.3, 1 234.
export function formatNumber(value: number, digits = 3): string {
  if (!Number.isFinite(value)) return value === Infinity ? "∞" : value === -Infinity ? `${minus}∞` : missing;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e9) {
    const [mantissa = "", exponent = "0"] = value.toExponential(digits - 1).split("e");
    return signed(`${mantissa}e${Number(exponent)}`);
  }
  if (size >= 10 ** (digits - 1)) return signed(grouped(Math.round(value)));
  return signed(Number(value.toPrecision(digits)).toFixed(decimals(size, digits)));
}

function decimals(size: number, digits: number): number {
  const magnitude = Math.floor(Math.log10(Number(size.toPrecision(digits))));
  return Math.max(0, digits - 1 - magnitude);
}

function grouped(value: number): string {
  return value.toString().replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

// A round value on an axis, without trailing zeros: 0.2, 50, 1.5 M.
export function formatTick(value: number): string {
  if (!Number.isFinite(value)) return "";
  const size = Math.abs(value);
  if (size >= 1e4) {
    const [scale, suffix] = size >= 1e9 ? [1e9, "G"] : size >= 1e6 ? [1e6, "M"] : [1e3, "k"];
    return `${signed(String(Number((value / (scale as number)).toPrecision(6))))}\u202f${suffix}`;
  }
  if (size !== 0 && size < 1e-4) return signed(value.toExponential().replace("e-", "e−"));
  return signed(String(Number(value.toPrecision(6))));
}

// A whole number with thin spaces between thousands.
export function formatCount(value: number | bigint): string {
  const number = Number(value);
  return Number.isFinite(number) ? signed(grouped(Math.round(number))) : missing;
}

// 950, 12.3 k, 4.50 M, 1.20 G.
export function formatShort(value: number | bigint): string {
  const number = Number(value);
  if (!Number.isFinite(number)) return missing;
  const scales: [number, string][] = [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ];
  for (const [scale, suffix] of scales) {
    if (Math.abs(number) >= scale) return `${formatNumber(number / scale)}\u202f${suffix}`;
  }
  return formatNumber(number);
}

// A share (0 to 1) as per cent: 12.3 %, 0.0041 %, 0 %.
export function formatShare(share: number): string {
  if (!Number.isFinite(share)) return missing;
  if (share > 0 && share < 1e-6) return `${formatNumber(share * 100, 2)}\u202f%`;
  const text = share === 1 ? "100" : formatNumber(share * 100, share >= 0.0995 ? 3 : 2);
  return `${text}\u202f%`;
}

// An activation on a token: fixed two decimals above 1, three significant digits below.
export function formatActivation(value: number): string {
  if (!Number.isFinite(value)) return missing;
  if (value === 0) return "0";
  return Math.abs(value) >= 1 && Math.abs(value) < 1000 ? signed(value.toFixed(2)) : formatNumber(value);
}

// 8 s, 2 min 05 s, 3 h 20 min, 2 d 4 h.
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return missing;
  if (seconds < 10 && seconds > 0) return `${formatNumber(seconds, 2)}\u202fs`;
  const whole = Math.round(seconds);
  const two = (value: number) => String(value).padStart(2, "0");
  if (whole < 60) return `${whole}\u202fs`;
  if (whole < 3600) return `${Math.floor(whole / 60)}\u202fmin ${two(whole % 60)}\u202fs`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}\u202fh ${two(Math.floor((whole % 3600) / 60))}\u202fmin`;
  return `${Math.floor(whole / 86400)}\u202fd ${Math.floor((whole % 86400) / 3600)}\u202fh`;
}

export function formatBytes(bytes: number | bigint): string {
  const number = Number(bytes);
  const scales: [number, string][] = [
    [2 ** 30, "GiB"],
    [2 ** 20, "MiB"],
    [2 ** 10, "KiB"],
  ];
  for (const [scale, suffix] of scales) {
    if (number >= scale) return `${formatNumber(number / scale)}\u202f${suffix}`;
  }
  return `${formatCount(number)}\u202fB`;
}

// An RFC 3339 time in the reader's zone: 2026-11-22 16:08:17.
export function formatTime(rfc3339: string): string {
  const time = new Date(rfc3339);
  if (rfc3339 === "" || Number.isNaN(time.getTime())) return missing;
  const two = (value: number) => String(value).padStart(2, "0");
  const date = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${date} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

export function shortHash(hash: string): string {
  return hash === "" ? missing : hash.slice(0, 12);
}
