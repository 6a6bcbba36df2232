// SPDX-License-Identifier: GPL-2.0
/*
 * bar-mapper - maps a memory BAR of a PCI function, and more than that if it is told to, as a driver does that does not
 * ask how large the BAR is.
 *
 * Documentation/driver-api/device-io.rst
 */
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pci.h>

static char *function = "";
module_param(function, charp, 0444);
MODULE_PARM_DESC(function, "address of the function, as 0000:01:00.0");

static int bar;
module_param(bar, int, 0444);
MODULE_PARM_DESC(bar, "number of the BAR");

static ulong beyond;
module_param(beyond, ulong, 0444);
MODULE_PARM_DESC(beyond, "bytes behind its end that are mapped too");

static void __iomem *registers;

/* not part of the module's start, so that the kernel can name it as the caller */
static noinline void map_bar(struct pci_dev *pdev)
{
	registers = ioremap(pci_resource_start(pdev, bar), pci_resource_len(pdev, bar) + beyond);
}

static int __init begin(void)
{
	struct device *device = bus_find_device_by_name(&pci_bus_type, NULL, function);
	struct pci_dev *pdev;

	if (!device)
		return -ENODEV;
	pdev = to_pci_dev(device);
	if (bar >= 0 && bar < PCI_STD_NUM_BARS && pci_resource_flags(pdev, bar) & IORESOURCE_MEM)
		map_bar(pdev);
	put_device(device);
	return registers ? 0 : -ENXIO;
}

static void __exit end(void)
{
	iounmap(registers);
}

module_init(begin);
module_exit(end);
MODULE_DESCRIPTION("maps a BAR, and what is behind it");
MODULE_LICENSE("GPL");
