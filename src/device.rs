//! Choosing where the arithmetic runs: a GPU through wgpu, or the CPU through SIMD.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::kernels::panels;
use crate::{Error, Result};

/// Storage-buffer binding that every WebGPU implementation grants, in bytes.
pub const GUARANTEED_BINDING_BYTES: u64 = 128 << 20;

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preference {
    /// A hardware GPU if there is one, else the CPU: a GPU emulated in software is slower than the
    /// CPU path.
    #[default]
    Auto,
    /// A GPU, even one emulated in software; an error if there is none.
    Gpu,
    /// The CPU.
    Cpu,
}

impl std::str::FromStr for Preference {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Preference::Auto),
            "gpu" => Ok(Preference::Gpu),
            "cpu" => Ok(Preference::Cpu),
            _ => Err(Error::Usage(format!("device {name} is not auto, gpu or cpu"))),
        }
    }
}

/// What runs the arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// A hardware GPU.
    Gpu,
    /// A GPU emulated on the CPU, such as SwiftShader.
    SoftwareGpu,
    /// SIMD on the CPU.
    Cpu,
}

/// The chosen device in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceReport {
    /// What it is.
    pub kind: DeviceKind,
    /// Its name as the driver gives it.
    pub name: String,
    /// Why it was chosen.
    pub reason: String,
    /// Largest binding that is used, in bytes; 0 on the CPU, which has no such limit.
    pub max_binding_bytes: u64,
}

/// A device ready for tensors.
#[derive(Debug, Clone)]
pub struct Accelerator {
    device: Device,
    report: DeviceReport,
}

impl Accelerator {
    /// The CPU, which is always there.
    pub fn cpu(reason: impl Into<String>) -> Self {
        let name = match (cfg!(target_arch = "wasm32"), panels::are_fused()) {
            (true, true) => "CPU (wasm SIMD with fused multiply-adds, one thread)",
            (true, false) => "CPU (wasm SIMD, one thread)",
            (false, _) => "CPU (SIMD)",
        };
        Self {
            device: Device::flex(),
            report: DeviceReport {
                kind: DeviceKind::Cpu,
                name: name.to_owned(),
                reason: reason.into(),
                max_binding_bytes: 0,
            },
        }
    }

    /// Chooses by `preference`. Falls back to the CPU only for [`Preference::Auto`].
    ///
    /// # Errors
    /// [`Error::Device`] if a GPU was demanded and there is none.
    pub async fn choose(preference: Preference) -> Result<Self> {
        if preference == Preference::Cpu {
            return Ok(Self::cpu("you chose the CPU"));
        }
        match (Self::gpu().await, preference) {
            (Ok(gpu), Preference::Gpu) => Ok(gpu),
            (Ok(gpu), _) if gpu.report.kind == DeviceKind::Gpu => Ok(gpu),
            (Ok(gpu), _) => Ok(Self::cpu(format!(
                "the only GPU here is {}, which is emulated in software and slower than the CPU",
                gpu.report.name
            ))),
            (Err(why), Preference::Gpu) => {
                Err(Error::Device(format!("no GPU can be used ({why}); choose the CPU")))
            }
            (Err(why), _) => Ok(Self::cpu(format!("no GPU can be used: {why}"))),
        }
    }

    async fn gpu() -> std::result::Result<Self, String> {
        #[cfg(not(target_arch = "wasm32"))]
        if !adapter_exists().await {
            return Err("there is no graphics adapter".to_owned());
        }
        let options = Device::wgpu_options();
        let (device, setup) = options.init_with_setup_async().await.map_err(|e| format!("{e}"))?;
        let info = setup.adapter.get_info();
        let software = info.device_type == burn::tensor::wgpu::wgpu::DeviceType::Cpu
            || ["swiftshader", "llvmpipe", "lavapipe", "basic render"]
                .iter()
                .any(|name| format!("{} {}", info.name, info.driver).to_lowercase().contains(name));
        let name = [info.name, info.driver, browser_name(&setup)].into_iter().find(|s| !s.trim().is_empty());
        let limit = setup.device.limits().max_storage_buffer_binding_size;
        Ok(Self {
            device,
            report: DeviceReport {
                kind: if software { DeviceKind::SoftwareGpu } else { DeviceKind::Gpu },
                name: name.unwrap_or_else(|| "unnamed GPU".to_owned()),
                reason: "a graphics adapter was found".to_owned(),
                max_binding_bytes: limit.min(GUARANTEED_BINDING_BYTES),
            },
        })
    }

    /// Where tensors are made.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What it is, in words.
    pub fn report(&self) -> &DeviceReport {
        &self.report
    }

    /// Largest single upload in bytes.
    pub fn max_binding_bytes(&self) -> u64 {
        match self.report.max_binding_bytes {
            0 => u64::MAX,
            limit => limit,
        }
    }
}

/// What a browser tells of an adapter whose description it keeps to itself: "nvidia turing".
#[cfg(target_arch = "wasm32")]
fn browser_name(setup: &burn::tensor::wgpu::WgpuSetup) -> String {
    let info = setup.device.as_webgpu().map(|device| device.adapter_info());
    let parts = info.map(|info| [info.vendor(), info.architecture()]).unwrap_or_default();
    parts.join(" ").trim().to_owned()
}

#[cfg(not(target_arch = "wasm32"))]
fn browser_name(_: &burn::tensor::wgpu::WgpuSetup) -> String {
    String::new()
}

/// Looks before it asks: the runtime panics where no adapter exists at all.
#[cfg(not(target_arch = "wasm32"))]
async fn adapter_exists() -> bool {
    use burn::tensor::wgpu::wgpu;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    !instance.enumerate_adapters(wgpu::Backends::all()).await.is_empty()
}
