// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {Ledger} from "./Ledger.sol";
import {LedgerTypes, totalOf} from "./LedgerTypes.sol";

/// @title Money for everybody: its part of the protocol's fees, of slashed stake, and donations, given away as grants.
/// @notice A donation is a plain transfer to this address. Grants go to renters' accounts, which can spend them on
/// training or withdraw them, and to payees; never straight to an address.
contract CommonsFund is AccessManaged {
    using SafeERC20 for IERC20;

    Ledger public immutable ledger;
    IERC20 public immutable token;
    /// What is credited to this payee is the fund's.
    uint32 public immutable payee;

    event Granted(bytes32 indexed purpose, uint256 amount);

    constructor(Ledger ledger_, address authority) AccessManaged(authority) {
        ledger = ledger_;
        token = ledger_.token();
        payee = ledger_.addPayee(address(this));
    }

    /// @notice Give money away. The role that may has a delay, in which everybody sees what is coming.
    /// @param purpose digest of the published reason.
    function grant(LedgerTypes.Award[] calldata awards, bytes32 purpose) external restricted {
        ledger.collect(payee);
        uint256 total = totalOf(awards);
        emit Granted(purpose, total);
        token.forceApprove(address(ledger), total);
        ledger.award(awards);
    }
}
